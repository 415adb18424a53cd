"""PyMySQL against a server on a socket: mysql_queries.py SOCKET WARM-UP SECONDS prints queries/s.

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
    done, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        for _ in range(20):
            done += 1
            if done % 10 == 0:
                cursor.execute("UPDATE benchmark.item SET price = price + 1 WHERE id = %s",
                               (done % 1000,))
            else:
                cursor.execute("SELECT id, name, price FROM benchmark.item WHERE id = %s",
                               (done % 1000,))
                assert cursor.fetchone()[0] == done % 1000
    return done


queries(float(sys.argv[2]))
began = time.monotonic()
count = queries(float(sys.argv[3]))
print(f"{count / (time.monotonic() - began):.1f}")
