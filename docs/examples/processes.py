"""Starts other interpreters in every way that Python has, from the same image."""

import multiprocessing
import subprocess
import sys


def square(number):
    return number * number


def main():
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        with context.Pool(2) as pool:
            print(f"{method:10}", pool.map(square, range(6)))

    child = subprocess.run(
        [sys.executable, "-c", "import sys; print(sys.prefix)"],
        check=True, capture_output=True, text=True,
    )
    print("subprocess", "has the same prefix:", child.stdout.strip() == sys.prefix)


# spawn and forkserver import this file again in each child.
if __name__ == "__main__":
    main()
