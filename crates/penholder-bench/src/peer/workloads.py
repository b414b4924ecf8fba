"""The workloads in Python. They do the same as those in Rust: see workload.rs.

Each is a generator of requests; a request is called with a client.
"""

import random


def insert(number, parts):
    while True:
        yield lambda client: client.execute(parts["insert"], (number, parts["text"]))


def hot(number, parts):
    while True:
        yield lambda client: client.execute(parts["update"], (number,))


def update_random_row(number, parts):
    while True:
        value = bytes([random.randrange(256)]) * parts["length"]
        row = random.randint(1, parts["rows"])
        yield lambda client: client.execute(parts["update"], (value, row))


def pages(number, parts):
    def row():
        a, b = random.getrandbits(63), random.getrandbits(63)
        return number, a, b, f"{random.getrandbits(64):016X}"

    while True:
        rows = [row() for _ in range(parts["rows"])]
        yield lambda client: client.write(lambda run: [run(parts["insert"], row) for row in rows])


def service(number, parts):
    def one(name):
        return random.randint(1, parts[name])

    def read(client):
        first = one("customers")
        keys = [(first + by - 1) % parts["customers"] + 1 for by in (0, 2000, 4000)]
        return client.read(parts["read_customers"], keys, 3)

    def purchase(run):
        customer, article = one("customers"), one("articles")
        price, sold = run(parts["read_article"], (article,)).fetchone()
        run(parts["update_article"], (sold + 1, article))
        run(parts["insert_purchase"], (customer, article, price))

    def request(client):
        kind = random.randrange(100)
        if kind < 40:
            return read(client)
        if kind < 65:
            return client.execute(parts["insert_event"], (number, one("customers"), parts["text"]))
        if kind < 85:
            return client.execute(parts["update_session"], (one("customers"), one("sessions")))
        if kind < 90:
            return client.execute(parts["update_counter"], (one("counters"),))
        return client.write(purchase)

    while True:
        yield request


WORKLOADS = dict(insert=insert, pages=pages, random=update_random_row, hot=hot, service=service)
