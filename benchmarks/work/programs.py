"""Five small programs, pure Python: recursion, a sort by hand, a sum, matrices, strings.

  programs.py NAME once       does the work once and prints its answer
  programs.py NAME repeat N   does it N times and prints each time, in seconds, as JSON
"""

import json
import sys
import time


def fibonacci():
    """Calls, and nothing else."""
    def number(n):
        return n if n < 2 else number(n - 1) + number(n - 2)
    return number(25)


def sort():
    """Insertion sort of 1,200 numbers that a generator of Lehmer's makes."""
    seed, values = 42, []
    for _ in range(1200):
        seed = seed * 48271 % 2147483647
        values.append(seed)
    for end in range(1, len(values)):
        value, at = values[end], end
        while at > 0 and values[at - 1] > value:
            values[at] = values[at - 1]
            at -= 1
        values[at] = value
    return values[600]


def summing():
    """A list of a million numbers, built and added up in a loop."""
    total = 0
    for number in [n * 3 % 7 for n in range(1_000_000)]:
        total += number
    return total


def matrix():
    """Two matrices of 90 by 90, as lists of lists."""
    size = 90
    left = [[row * column % 11 for column in range(size)] for row in range(size)]
    right = [[row + column for column in range(size)] for row in range(size)]
    product = [[sum(left[row][k] * right[k][column] for k in range(size))
                for column in range(size)] for row in range(size)]
    return product[17][71]


def strings():
    """200,000 pieces put together: into a list that is joined, and by formatting."""
    pieces = []
    for number in range(100_000):
        pieces.append("piece " + str(number))
        pieces.append(f"<{number}>")
    return len("".join(pieces))


PROGRAMS = {"fibonacci": fibonacci, "sort": sort, "sum": summing, "matrix": matrix,
            "strings": strings}

if __name__ == "__main__":
    program = PROGRAMS[sys.argv[1]]
    if sys.argv[2] == "once":
        print(program())
    else:
        times = []
        for _ in range(int(sys.argv[3])):
            began = time.perf_counter()
            program()
            times.append(time.perf_counter() - began)
        print(json.dumps(times))
