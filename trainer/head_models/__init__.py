"""Head models: tissue labels on a voxel grid, made from the anatomy that packages carry."""
