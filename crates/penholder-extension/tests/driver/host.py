# A program that uses SQLite and loads the library: see host.rs.
import ctypes, os, queue, sqlite3, sys, threading, time

library, says_hello = sys.argv[1], threading.Lock()
if library != "-":
    loader = sqlite3.connect(":memory:")
    loader.enable_load_extension(True)
    loader.execute("SELECT load_extension(?, 'sqlite3_penholder_default_init')", (library,))


def say(line):
    with says_hello:
        print("peer> " + line, flush=True)


def text(value):
    return "" if value is None else str(value)


def run(connections, name, sql):
    word, _, rest = sql.partition(" ")
    if word == "!open":
        timeout, _, uri = rest.partition(" ")
        connections[name] = sqlite3.connect(
            uri, timeout=int(timeout) / 1000, isolation_level=None, uri=True, check_same_thread=False)
        return ""
    if word == "!close":
        connections.pop(name).close()
        return ""
    if word == "!fds":
        return "%d|%d" % (len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")))
    if word == "!lock":
        timeout, _, path = rest.partition(" ")
        interface = ctypes.CDLL(library)
        lock = ctypes.c_void_p()
        assert interface.penholder_lock_new(path.encode(), None, ctypes.byref(lock)) == 0
        connections[name] = lock
        milliseconds = ctypes.c_uint64(int(timeout))
        return str(interface.penholder_lock_acquire(lock, milliseconds, milliseconds))
    if word == "!unlock":
        ctypes.CDLL(library).penholder_lock_free(connections.pop(name))
        return ""
    if word in ("!fork", "!fork_lock"):
        # The child uses a connection or a lock of its own, and ends.
        reads, writes = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                time.sleep(0.05)
                uri, _, sql = rest.partition(" ")
                if word == "!fork_lock":
                    said = "ok " + run({}, "own", "!lock " + rest)
                else:
                    own = sqlite3.connect(uri, timeout=10, isolation_level=None, uri=True)
                    said = "ok " + rows_of(own, sql)
            except BaseException as error:
                said = "error " + repr(error)
            os.write(writes, said.encode())
            os._exit(0)
        os.close(writes)

        def tell():
            said = os.read(reads, 10000).decode()
            os.close(reads)
            os.waitpid(child, 0)
            say("child " + said)
        threading.Thread(target=tell).start()
        return ""
    connection = connections[name]
    try:
        return rows_of(connection, sql)
    except sqlite3.Error:
        # Only what a task has begun itself is ended.
        if "COMMIT" in sql and connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def rows_of(connection, sql):
    rows = []
    for statement in sql.split(";"):
        if statement.strip():
            rows = connection.execute(statement).fetchall()
    return ",".join("|".join(text(value) for value in row) for row in rows)


def serve(tasks):
    connections = {}
    while True:
        name, sql = tasks.get()
        try:
            answer = "ok " + run(connections, name, sql)
        except Exception as error:
            answer = "error " + str(error)
        say(name + " " + answer)


threads = {}
say("ready")
for line in sys.stdin:
    name, _, sql = line.rstrip("\n").partition(" ")
    thread = name.partition(".")[0]
    if thread not in threads:
        threads[thread] = queue.Queue()
        threading.Thread(target=serve, args=(threads[thread],), daemon=True).start()
    threads[thread].put((name, sql))
os._exit(0)
