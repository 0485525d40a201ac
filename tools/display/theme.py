"""Colours and sizes: dark and calm, readable at two metres, and safe for the colour-blind.

The accents are those of Okabe and Ito (2008). No colour stands alone: whatever it says is also said in words.
"""

from tools.display.words import Tone

BACKGROUND = "#101317"
PANEL = "#191e25"
PANEL_EDGE = "#2a313b"
GRID = "#39424e"
TEXT = "#eef1f5"
TEXT_DIM = "#a3aebb"

SKY = "#56b4e9"
GREEN = "#2fc49b"
YELLOW = "#f0c442"
ORANGE = "#f2a03d"
RED = "#ff6f4d"
PURPLE = "#d88fc0"

TRACE = "#d9e4ee"
TRACE_OLD = "#5b6570"
WINDOW_SHADE = "#1f3a4c"
PULSE_LINE = "#8793a1"
COG = "#ffffff"
COG_HALO = "#000000"

TONES: dict[Tone, str] = {"good": GREEN, "calm": TEXT_DIM, "warn": ORANGE, "bad": RED}
"""Tone -> colour of text on the panels; each has a contrast of at least 6:1 there."""

INK_ON_TONE = "#0c0f12"
"""Text on a ground of any tone."""

FONT_FAMILIES = ["Inter", "Segoe UI", "Helvetica Neue", "Noto Sans", "DejaVu Sans"]
SMALL_PX = 14
NORMAL_PX = 16
LARGE_PX = 20
HUGE_PX = 34

FIELD_COLOURS = "viridis"
SPREAD_COLOURS = "cividis"
"""Perceptually uniform both, and unlike enough that field and spread are not mistaken for each other."""
