"""The names of the muscles, as the article lists them (II.A)."""

ARTICLE_MUSCLES: tuple[str, ...] = (
    "FDI", "3DI", "3Lum", "EI", "AbPB", "AdPB", "ADM", "FDM", "FCR", "FCU", "FDS", "EDC", "ECR", "ECU", "BRD",
)  # fmt: skip
"""The 15 hand and forearm muscles of the article, in its order; the default of every simulated session."""
