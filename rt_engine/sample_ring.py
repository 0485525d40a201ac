"""The last seconds of EMG, in one preallocated array."""

import numpy as np
from numpy.typing import NDArray


class SampleRing:
    """Keeps the last `capacity` samples of the muscles' channels, addressed by absolute sample index.

    Parameters
    ----------
    capacity
        Number of samples kept.
    n_channels
        Number of channels kept per sample.
    """

    def __init__(self, capacity: int, n_channels: int) -> None:
        self._data = np.full((capacity, n_channels), np.nan, dtype=np.float32)
        self._capacity = capacity
        self._end = 0

    @property
    def end(self) -> int:
        """Index one past the newest sample; the number of samples ever appended."""
        return self._end

    @property
    def start(self) -> int:
        """Index of the oldest sample still held."""
        return max(0, self._end - self._capacity)

    def append(self, samples: NDArray[np.float32]) -> None:
        """Append samples.

        Parameters
        ----------
        samples
            (n, n_channels) float32; only the last `capacity` of them can stay.
        """
        n = samples.shape[0]
        kept = samples[-self._capacity :]
        first = (self._end + n - kept.shape[0]) % self._capacity
        head = min(kept.shape[0], self._capacity - first)
        self._data[first : first + head] = kept[:head]
        self._data[: kept.shape[0] - head] = kept[head:]
        self._end += n

    def read(self, first: int, last: int) -> NDArray[np.float32]:
        """Copy out the samples `first` to `last`, both included.

        Returns
        -------
        (last - first + 1, n_channels) float32

        Raises
        ------
        IndexError
            If a sample has left the ring or has not arrived.
        """
        if first < self.start or last >= self._end or first > last:
            raise IndexError(f"samples {first} to {last} asked for, {self.start} to {self._end - 1} held")
        begin, end = first % self._capacity, last % self._capacity + 1
        if begin < end:
            return self._data[begin:end].copy()
        return np.concatenate((self._data[begin:], self._data[:end]))
