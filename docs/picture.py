#!/usr/bin/env python3
"""Draws docs/quickstart.svg, and prints what a terminal shows.

    python3 docs/picture.py docs/quickstart.svg    # a picture of `fleetform quickstart my-fleet` while it runs
    python3 docs/picture.py --print 'COMMAND'      # the lines that COMMAND leaves on a terminal; exits as it does
    python3 docs/picture.py --broken 60 'COMMAND'  # of those on 60 columns, the ones that the terminal broke

`fleetform` is the one of the PATH. The terminal has 80 columns otherwise. It knows the control sequences that fleetform writes;
any other one is an error. Needs Python 3 on Unix, and nothing beyond its standard library.
"""

import codecs
import fcntl
import os
import re
import struct
import subprocess
import sys
import tempfile
import termios
from itertools import groupby
from xml.sax.saxutils import escape

COLUMNS, ROWS = 80, 50
COMMAND = "fleetform quickstart my-fleet"

# Of a colour that a terminal calls by number; None is that of plain text.
COLORS = {
    None: "#c5c8c6", 31: "#cc6666", 32: "#98a84b", 33: "#d0b344", 34: "#608ab1", 35: "#98729f", 36: "#68a0b3",
    91: "#d98080", 92: "#b5c26a", 93: "#e0c96a", 94: "#81a2be", 95: "#b294bb", 96: "#8abeb7",
}
BACKGROUND, DIMMED, FRAME = "#292929", "#868887", "#565656"
CELL, LINE, MARGIN, TITLE = 12.2, 24.4, 9, 41

SEQUENCE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])")


class Screen:
    """What a terminal shows: rows of cells, each a character with its style (colour, bold, dim)."""

    def __init__(self, before_redraw=lambda screen: None, columns=COLUMNS):
        self.columns, self.broken = columns, []
        self.rows, self.row, self.column = [[]], 0, 0
        self.style = (None, False, False)
        self.rest = ""
        self.before_redraw = before_redraw

    def feed(self, text):
        text, at = self.rest + text, 0
        self.rest = ""
        while at < len(text):
            if text[at] == "\x1b":
                sequence = SEQUENCE.match(text, at)
                if sequence is None:
                    if len(text) - at < 16:
                        self.rest = text[at:]
                        return
                    sys.exit(f"an unknown sequence: {text[at:at + 16]!r}")
                self.control(*sequence.groups())
                at = sequence.end()
            else:
                self.put(text[at])
                at += 1

    def control(self, numbers, final):
        count = int(numbers) if numbers.isdigit() else 1
        if final == "A":
            self.before_redraw(self)
            self.row = max(self.row - count, 0)
        elif final == "B":
            self.go_to(self.row + count)
        elif final == "K" and numbers == "2":
            self.rows[self.row] = []
        elif final == "K" and numbers in ("", "0"):
            del self.rows[self.row][self.column:]
        elif final == "m":
            for number in numbers.split(";"):
                self.paint(int(number or 0))
        else:
            sys.exit(f"an unknown sequence: ESC [ {numbers} {final}")

    def paint(self, number):
        color, bold, dim = self.style
        if number == 0:
            self.style = (None, False, False)
        elif number == 1:
            self.style = (color, True, dim)
        elif number == 2:
            self.style = (color, bold, True)
        elif number == 4:  # Underlined, as the heads of helps are.
            self.style = (color, True, dim)
        elif number in COLORS:
            self.style = (number, bold, dim)
        else:
            sys.exit(f"an unknown style: {number}")

    def put(self, char):
        if char == "\r":
            self.column = 0
        elif char == "\n":
            self.go_to(self.row + 1)
        elif char < " ":
            sys.exit(f"an unknown control character: {char!r}")
        else:
            if self.column == self.columns:
                self.broken.append(self.row)
                self.go_to(self.row + 1)
                self.column = 0
            cells = self.rows[self.row]
            cells.extend([(" ", (None, False, False))] * (self.column + 1 - len(cells)))
            cells[self.column] = (char, self.style)
            self.column += 1

    def go_to(self, row):
        self.row = row
        self.rows.extend([] for _ in range(row + 1 - len(self.rows)))

    def lines(self):
        return ["".join(char for char, _ in cells).rstrip() for cells in self.rows]


def run(command, screen, folder="."):
    """Runs a command of the shell on a terminal, and returns the code that it exits with."""
    terminal, end = os.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, screen.columns, 0, 0))
    environment = dict(os.environ, TERM="xterm-256color", PAGER="cat", GIT_PAGER="cat")
    child = subprocess.Popen(
        ["sh", "-c", command], cwd=folder, env=environment, stdin=end, stdout=end, stderr=end, start_new_session=True
    )
    os.close(end)
    decoder = codecs.getincrementaldecoder("utf-8")()
    while True:
        try:
            chunk = os.read(terminal, 1 << 16)
        except OSError:  # Linux says so when the last process has closed its end.
            chunk = b""
        if not chunk:
            return child.wait()
        screen.feed(decoder.decode(chunk))


def quickstart():
    """Returns the rows of the quickstart while its last job is in its second batch."""
    frames = []

    def look(screen):
        lines = "\n".join(screen.lines())
        # The two bars are not drawn at one moment: take a frame in which they agree.
        whole, batch = re.search(r"(\d+)/300 ", lines), re.search(r"batch 2 of 6 .* (\d+)/50 ", lines)
        if whole and batch and int(batch[1]) > 0 and int(whole[1]) == 50 + int(batch[1]):
            frames.append([list(cells) for cells in screen.rows])

    screen = Screen(look)
    with tempfile.TemporaryDirectory() as folder:
        code = run(COMMAND, screen, folder)
    if code != 0 or not frames:
        sys.exit(f"`{COMMAND}` exits with {code} and shows no second batch:\n" + "\n".join(screen.lines()))
    rows = frames[-1]
    while rows and not any(char.strip() for char, _ in rows[-1]):
        rows.pop()
    prompt = [(char, (None, False, False)) for char in f"$ {COMMAND}"]
    return [prompt, *rows]


def svg(rows):
    width, height = COLUMNS * CELL + 2 * MARGIN, len(rows) * LINE + TITLE + MARGIN + 6
    colors = {style[0] for cells in rows for _, style in cells if style[0]}
    parts = [
        f'<svg viewBox="0 0 {width:g} {height:g}" xmlns="http://www.w3.org/2000/svg">',
        f"<title>{COMMAND}</title>",
        "<style>",
        f"text {{ font: 20px ui-monospace, Menlo, Consolas, monospace; fill: {COLORS[None]}; white-space: pre }}",
        ".title { font: bold 18px arial, sans-serif; text-anchor: middle }",
        *(f".c{number} {{ fill: {COLORS[number]} }}" for number in sorted(colors)),
        f".bold {{ font-weight: bold }} .dim {{ fill: {DIMMED} }}",
        "</style>",
        f'<rect x="1" y="1" width="{width - 2:g}" height="{height - 2:g}" rx="8" fill="{BACKGROUND}" stroke="{FRAME}"/>',
        *(f'<circle cx="{26 + 22 * at}" cy="22" r="7" fill="{fill}"/>'
          for at, fill in enumerate(["#ff5f57", "#febc2e", "#28c840"])),
        f'<text class="title" x="{width / 2:g}" y="28">{COMMAND}</text>',
        f'<g transform="translate({MARGIN} {TITLE})">',
    ]
    for row, cells in enumerate(rows):
        column = 0
        for style, run_of_cells in groupby(cells, key=lambda cell: cell[1]):
            text = "".join(char for char, _ in run_of_cells)
            if text.strip():
                color, bold, dim = style
                names = [f"c{color}"] * bool(color) + ["bold"] * bold + ["dim"] * dim
                shown = text.rstrip()
                start = len(shown) - len(shown.lstrip())
                attributes = f' class="{" ".join(names)}"' if names else ""
                attributes += f' x="{(column + start) * CELL:g}" y="{row * LINE + 20:g}"'
                attributes += f' textLength="{(len(shown) - start) * CELL:g}"'
                parts.append(f'<text{attributes} xml:space="preserve">{escape(shown.lstrip())}</text>')
            column += len(text)
    return "\n".join([*parts, "</g>", "</svg>", ""])


def main(arguments):
    if len(arguments) == 2 and arguments[0] == "--print":
        screen = Screen()
        code = run(arguments[1], screen)
        print("\n".join(screen.lines()))
        return code
    if len(arguments) == 3 and arguments[0] == "--broken" and arguments[1].isdigit():
        screen = Screen(columns=int(arguments[1]))
        code = run(arguments[2], screen)
        lines = screen.lines()
        print("\n".join(lines[row] for row in screen.broken), end="\n" * bool(screen.broken))
        return code
    if len(arguments) == 1 and not arguments[0].startswith("-"):
        with open(arguments[0], "w", encoding="utf-8") as file:
            file.write(svg(quickstart()))
        return 0
    sys.exit(__doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
