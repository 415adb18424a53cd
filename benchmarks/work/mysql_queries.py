"""PyMySQL against a server on a socket: mysql_queries.py SOCKET WARM-UP SECONDS warms up and prints
"warm"; for each line that it reads from then on it prints the queries/s of that many seconds.

A query is a look-up by key, every tenth one an update."""

import sys
import time

import pymysql

connection = pymysql.connect(unix_socket=sys.argv[1], user="root", autocommit=True)
cursor = connection.cursor()
cursor.execute("CREATE DATABASE IF NOT EXISTS benchmark")
cursor.execute("DROP TABLE IF EXISTS benchmark.item")
cursor.execute("CREATE TABLE benchmark.item (id INT PRIMARY KEY, name VARCHAR(80), price INT)"
               " ENGINE=MEMORY")
cursor.executemany("INSERT INTO benchmark.item VALUES (%s, %s, %s)",
                   [(n, f"item {n}", n * 13 % 997) for n in range(1000)])


def queries(seconds):
    """Queries a second."""
    done, began = 0, time.monotonic()
    while time.monotonic() < began + seconds:
        for _ in range(20):
            done += 1
            if done % 10 == 0:
                cursor.execute("UPDATE benchmark.item SET price = price + 1 WHERE id = %s",
                               (done % 1000,))
            else:
                cursor.execute("SELECT id, name, price FROM benchmark.item WHERE id = %s",
                               (done % 1000,))
                assert cursor.fetchone()[0] == done % 1000
    return done / (time.monotonic() - began)


queries(float(sys.argv[2]))
print("warm", flush=True)
for _ in sys.stdin:
    print(f"{queries(float(sys.argv[3])):.1f}", flush=True)
