"""Reads a live queue file and prints as JSON what stands in it.

Written from docs/design.md, "The queue file", alone: it shares no code with penholder.

usage: python3 read_queue_file.py QUEUE_FILE
"""

import fcntl
import json
import struct
import sys

MAGIC = b"penhold\n"
VERSION = 3
HEAD = 49_152
BLOCK = 69_632
BLOCK_SLOTS = 8
RECORD = 512
RECORDS = BLOCK_SLOTS * RECORD
SLOTS_MAX = 512
LIVENESS = 1 << 62
# Python 3.8 does not name it.
F_OFD_GETLK = getattr(fcntl, "F_OFD_GETLK", 36)

FREE, HELD, KEPT, RESERVED = range(4)
COUNTERS = [
    "acquisitions", "contended", "timeouts", "recoveries", "unqueued_holders", "passed_over",
    "events", "batches", "batched_writes", "combined_requests", "combined_writes",
]
HISTOGRAMS = {"waits": 512, "holds": 2560, "batch_writes": 4608}
EVENT_KINDS = {
    1: "long-hold", 2: "timeout", 3: "recovery", 4: "unqueued-holder", 5: "passed-over",
    6: "combined", 7: "sqlite-busy", 8: "outsider-wrote",
}
# Of an entry of a database: the number of its word.
DATABASE = {
    "device": 0, "inode": 1, "epoch": 2, "commits": 3, "used": 4, "watchers": 5,
    "leases": 22, "writes": 23, "ended_slice": 24, "ended_idle": 25, "ended_waiter": 26,
    "ended_outsider": 27, "ended_checkpoint": 28, "ended_close": 29, "ended_other": 30,
    "gaps": 32, "gaps_used": 33, "outsider_writes": 34, "outsider_marks": 35, "lease_ns": 36,
}


class Refused(Exception):
    """The file is not one to read."""


class QueueFile:
    def __init__(self, path):
        # A reader only reads: a file that is truncated meanwhile ends no process.
        self.file = open(path, "rb", buffering=0)
        self.head = self.read(0, HEAD)
        if self.head[:8] != MAGIC:
            raise Refused("no queue file")
        if self.word(8) != VERSION:
            raise Refused(f"version {self.word(8)}")
        if self.word(32) != boot():
            raise Refused("of another boot")
        # The number may be garbage: only blocks that are there are read.
        self.slots = min(self.word(16), SLOTS_MAX)
        self.blocks = {}

    def read(self, offset, length):
        self.file.seek(offset)
        data = b""
        while len(data) < length:
            more = self.file.read(length - len(data))
            if not more:
                raise Refused("too short")
            data += more
        return data

    def word(self, offset):
        return word(self.head, offset)

    def record(self, slot):
        """The record of a slot; None if there is no such slot."""
        if slot >= self.slots:
            return None
        block, place = divmod(slot, BLOCK_SLOTS)
        if block not in self.blocks:
            try:
                self.blocks[block] = self.read(HEAD + block * BLOCK, RECORDS)
            except Refused:
                self.blocks[block] = None
        records = self.blocks[block]
        return records and records[place * RECORD : (place + 1) * RECORD]

    def lives(self, slot):
        """Whether a process has the byte of this slot locked: only the kernel knows."""
        l_type, l_whence, l_pid = fcntl.F_RDLCK, 0, 0
        asked = struct.pack("hhqqi4x", l_type, l_whence, LIVENESS + slot, 1, l_pid)
        answer = fcntl.fcntl(self.file, F_OFD_GETLK, asked)
        return struct.unpack("hhqqi4x", answer)[0] != fcntl.F_UNLCK

    def occupant(self, slot):
        record = self.record(slot)
        if record is None or word(record, 64) == 0:
            return None
        return {
            "slot": slot,
            "lives": self.lives(slot),
            "ticket": word(record, 40),
            "since": word(record, 8),
            "until": word(record, 16),
            "pid": word(record, 64),
            "start": word(record, 72),
            "pidns": word(record, 80),
            "cmd": text(record, 96, 128),
            "label": text(record, 224, 64),
            "statement": statement(record[320:448]),
        }

    def holder(self):
        turn = self.word(64)
        state, slot = turn & 3, turn >> 2 & 0xFFFF
        return self.occupant(slot) if state == HELD else None

    def waiters(self):
        waiting = [
            64 * group + bit
            for group in range(SLOTS_MAX // 64)
            for bit in range(64)
            if self.word(192 + 8 * group) >> bit & 1
        ]
        occupants = [self.occupant(slot) for slot in waiting]
        alive = [one for one in occupants if one and one["lives"]]
        return sorted(alive, key=lambda one: one["ticket"])

    def counters(self):
        return {name: self.word(256 + 8 * n) for n, name in enumerate(COUNTERS)}

    def histogram(self, at):
        """The buckets that count something: from which value on, and how many."""
        counts = {n: self.word(at + 8 * n) for n in range(256)}
        return {bucket_starts(n): count for n, count in counts.items() if count}

    def events(self):
        found = []
        for place in range(64):
            at, texts, counted = 8192 + 128 * place, 16_384 + 256 * place, 7168 + 16 * place
            number = self.word(at)
            if number == 0:
                continue
            count = self.word(counted)
            of_event = count >> 32 == number & 0xFFFFFFFF
            found.append({
                "number": number,
                "kind": EVENT_KINDS.get(self.word(at + 8)),
                "at_ns": self.word(at + 16),
                "pid": self.word(at + 24),
                "other_pid": self.word(at + 32),
                "amount": self.word(at + 40),
                "label": text(self.head, at + 48, 80),
                "statement": text(self.head, texts, 128),
                "call_site": text(self.head, texts + 128, 128),
                "count": max(count & 0xFFFFFFFF, 1) if of_event else 1,
            })
        return sorted(found, key=lambda event: -event["number"])

    def databases(self):
        entries = []
        for place in range(32):
            at = 32_768 + 512 * place
            entry = {name: self.word(at + 8 * n) for name, n in DATABASE.items()}
            if entry["epoch"]:
                entries.append(entry)
        return entries


def word(data, offset):
    return struct.unpack_from("=Q", data, offset)[0]


def text(data, offset, length):
    return data[offset : offset + length].split(b"\0")[0].decode("utf-8", "replace")


def statement(words):
    length = word(words, 0)
    if length == 0:
        return None
    is_place, length = length >> 63, length & ~(1 << 63)
    shown = words[8 : 8 + min(length, 120)].decode("utf-8", "replace")
    return {"text": shown, "is_cut": length > 120, "is_place": bool(is_place)}


def bucket_starts(number):
    highest, next_two = divmod(number, 4)
    return 0 if highest < 2 else (4 + next_two) << (highest - 2)


def boot():
    with open("/proc/sys/kernel/random/boot_id") as file:
        digits = file.read().strip().replace("-", "")
    return int(digits[:16], 16) ^ int(digits[16:], 16)


def main():
    file = QueueFile(sys.argv[1])
    print(json.dumps({
        "slots": file.slots,
        "length": file.word(24),
        "id": file.word(48),
        "holder": file.holder(),
        "waiters": file.waiters(),
        "counters": file.counters(),
        "histograms": {name: file.histogram(at) for name, at in HISTOGRAMS.items()},
        "events": file.events(),
        "databases": file.databases(),
    }))


if __name__ == "__main__":
    try:
        main()
    except Refused as refused:
        sys.exit(f"{sys.argv[1]}: {refused}")
