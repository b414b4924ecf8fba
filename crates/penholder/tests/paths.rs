//! Every name of a database leads to one lock file. A path that cannot be a database is
//! refused with a reason, and nothing is created or changed.
#![cfg(test)]

#[cfg(unix)]
use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs;
#[cfg(unix)]
use std::os::unix::ffi::OsStrExt;
#[cfg(unix)]
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[cfg(unix)]
use penholder::Result;
#[cfg(unix)]
use penholder::doctor::Check;
use penholder::{Database, Error, OpenOptions};
use penholder_testkit::database_fixture::DatabaseFixture;
use penholder_testkit::peer::Peer;
#[cfg(unix)]
use penholder_testkit::portable;
use penholder_testkit::{database_fixture, peer, plain_sqlite, raw_file, wait};
use rusqlite::ErrorCode;

#[test]
fn peer() {
    peer::run_role(&[
        ("hold_transaction", database_fixture::hold_transaction),
        ("change_directory", change_directory),
        ("keep_open", keep_open),
    ]);
}

/// Asserts that a path is refused at once, for this reason.
fn assert_refused(path: impl AsRef<Path>, why: &str) -> Error {
    let (opened, took) = wait::timed(|| Database::open(&path));
    let error = opened.unwrap_err();
    assert!(error.is_refused(), "{:?}: {error}", path.as_ref());
    assert!(error.to_string().contains(why), "{error}");
    assert!(took < database_fixture::PROMPT, "{took:?}");
    error
}

/// Asserts that a write under one name waits for a writer under the other name.
fn assert_excluded(path: &Path, holder_path: &Path) {
    let options = OpenOptions::new().timeout(Duration::from_millis(100));
    let db = options.open(path).unwrap();
    let mut holder = database_fixture::start_holder("hold_transaction", holder_path);
    let error = database_fixture::insert(&db, "no").unwrap_err();
    assert!(error.is_timeout() && !error.is_sqlite_busy(), "{error}");
    assert_eq!(error.holder().unwrap().pid, Some(holder.pid()), "{error}");
    holder.send("release");
    holder.expect("released");
}

// ---- other names of one database ---------------------------------------------

#[test]
fn symbolic_links_lead_to_one_lock_file() {
    let (fixture, elsewhere) = (DatabaseFixture::new(), DatabaseFixture::new());
    drop(fixture.database());
    let (direct, relative) = (elsewhere.join("direct.db"), fixture.join("relative.db"));
    if !raw_file::link(&fixture.path(), &direct) {
        return;
    }
    raw_file::link(Path::new("./x.db"), &relative);
    let directory = elsewhere.join("directory");
    raw_file::link(&fixture.directory(), &directory);
    for name in [direct.clone(), relative, directory.join("x.db")] {
        let db = database_fixture::open(&name);
        assert_eq!(db.path(), fixture.path());
        assert_eq!(db.lock_file(), fixture.join("db.lock"));
        drop(db);
        assert_excluded(&name, &fixture.path());
        assert_excluded(&fixture.path(), &name);
    }
    assert_eq!(elsewhere.file_names(), ["direct.db", "directory"]);
}

#[test]
fn a_dangling_link_creates_the_database_that_it_names() {
    let (fixture, elsewhere) = (DatabaseFixture::new(), DatabaseFixture::new());
    let link = elsewhere.join("link.db");
    if !raw_file::link(&fixture.path(), &link) {
        return;
    }
    let db = database_fixture::open(&link);
    assert_eq!(db.path(), fixture.path());
    db.execute("CREATE TABLE entry(key)", ()).unwrap();
    drop(db);
    assert_eq!(fixture.file_names(), ["db.lock", "db.lockq", "x.db"]);
    assert_eq!(elsewhere.file_names(), ["link.db"]);
    assert_excluded(&link, &fixture.path());
    let nowhere = elsewhere.join("nowhere.db");
    raw_file::link(&elsewhere.join("missing/x.db"), &nowhere);
    assert_refused(&nowhere, "missing");
    let circle = elsewhere.join("circle.db");
    raw_file::link(&circle, &circle);
    assert_refused(&circle, "links");
}

/// Opens by a relative path, and then changes the working directory.
fn change_directory(args: &[OsString]) {
    std::env::set_current_dir(&args[0]).unwrap();
    let db = database_fixture::open(Path::new("x.db"));
    std::env::set_current_dir("/").unwrap();
    database_fixture::insert(&db, "from elsewhere").unwrap();
    assert_eq!(database_fixture::keys(&db), ["from elsewhere"]);
    // Each of these opens another connection.
    let all = db.read(|_| -> penholder::Result<i64> { Ok(database_fixture::count_entries(&db)) });
    assert_eq!(all.unwrap(), 1);
    db.checkpoint().unwrap();
    peer::send(db.path().to_str().unwrap());
    peer::send(db.lock_file().to_str().unwrap());
}

#[test]
fn a_relative_path_survives_a_change_of_directory() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let mut peer = Peer::start("change_directory", [fixture.directory()]);
    peer.expect(fixture.path().to_str().unwrap());
    peer.expect(fixture.join("db.lock").to_str().unwrap());
    assert!(peer.close().success());
    assert_eq!(
        database_fixture::keys(&fixture.database()),
        ["from elsewhere"]
    );
}

#[test]
fn dots_and_slashes_make_no_difference() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let name = fixture.directory().file_name().unwrap().to_owned();
    let indirect = fixture.directory().join("..").join(name).join(".//x.db");
    assert_eq!(database_fixture::open(&indirect).path(), fixture.path());
    assert_excluded(&indirect, &fixture.path());
}

/// Windows does not tell whether a process uses the other name.
#[cfg(windows)]
#[test]
fn a_database_with_two_names_is_refused() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let second = fixture.join("second.db");
    fs::hard_link(fixture.path(), &second).unwrap();
    for name in [&second, &fixture.path()] {
        let error = database_fixture::options().open(name).unwrap_err();
        assert!(error.is_refused(), "{error}");
        let text = error.to_string();
        assert!(text.contains("the file has 2 names (hard links)"), "{text}");
        assert!(text.contains("fsutil hardlink list"), "{text}");
    }
    drop(db);
    fs::remove_file(second).unwrap();
    drop(fixture.database());
}

#[cfg(unix)]
#[test]
fn a_hard_link_gives_a_warning() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    assert!(db.warnings().is_empty());
    drop(db);
    fs::hard_link(fixture.path(), fixture.join("second.db")).unwrap();
    let db = database_fixture::open(&fixture.path());
    let [warning] = db.warnings() else {
        panic!("{:?}", db.warnings());
    };
    assert_eq!(warning.check, Check::HardLinks);
    assert!(warning.finding.contains("2 names"), "{warning}");
    database_fixture::insert(&db, "works").unwrap();
}

/// Opens and reads a database, until `end`.
fn keep_open(args: &[OsString]) {
    let db = database_fixture::open(Path::new(&args[0]));
    database_fixture::keys(&db);
    peer::send("open");
    peer::expect("end");
}

/// In the same directory the lock is shared, and the WAL is not; in another neither is.
#[cfg(unix)]
#[test]
fn a_second_name_that_a_process_uses_is_refused() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    fs::create_dir(fixture.join("elsewhere")).unwrap();
    for second in ["second.db", "elsewhere/x.db"] {
        let second = fixture.join(second);
        fs::hard_link(fixture.path(), &second).unwrap();
        let mut peer = Peer::start("keep_open", [&second]);
        peer.expect("open");
        let lock = |path| database_fixture::options().locker(path).map(drop);
        let open = |path| database_fixture::options().open(path).map(drop);
        let read = |path| {
            database_fixture::options()
                .read_only(true)
                .open(path)
                .map(drop)
        };
        let ways: [&dyn Fn(PathBuf) -> Result<()>; 3] = [&lock, &open, &read];
        for way in ways {
            let error = way(fixture.path()).unwrap_err();
            assert!(error.is_refused(), "{error}");
            let words = format!("has the same file open as {second:?}");
            assert!(error.to_string().contains(&words), "{error}");
            assert!(error.to_string().contains(&format!("pid:{}", peer.pid())));
            way(second.clone()).unwrap();
        }
        peer.send("end");
        assert!(peer.close().success());
        database_fixture::insert(&database_fixture::open(&fixture.path()), "1").unwrap();
        fs::remove_file(second).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn a_second_name_that_this_process_uses_is_refused() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let second = fixture.join("second.db");
    fs::hard_link(fixture.path(), &second).unwrap();
    let error = database_fixture::options().open(&second).unwrap_err();
    assert!(error.is_refused(), "{error}");
    drop(db);
    database_fixture::open(&second);
}

#[cfg(unix)]
#[test]
fn a_name_may_consist_of_any_bytes() {
    let fixture = DatabaseFixture::new();
    for name in [
        &b"\xff\xfe.db"[..],
        b"new\nline.db",
        b" space ",
        b"100%25?mode=ro#x",
        b"'; DROP TABLE entry; --",
        b"-wal",
        "größe.db".as_bytes(),
    ] {
        let path = fixture.directory().join(OsStr::from_bytes(name));
        let db = database_fixture::open(&path);
        db.execute("CREATE TABLE entry(key)", ()).unwrap();
        database_fixture::insert(&db, "1").unwrap();
        assert_eq!(database_fixture::keys(&db), ["1"], "{path:?}");
        let copy = fixture.directory().join(OsStr::from_bytes(b"copy\xff"));
        db.backup_to(&copy).unwrap();
        drop(db);
        assert!(path.is_file());
        fs::remove_file(path).unwrap();
        assert_eq!(
            database_fixture::keys(&database_fixture::open(&copy)),
            ["1"]
        );
        fs::remove_file(copy).unwrap();
    }
    let ours = ["db.lock", "db.lockq"];
    assert_eq!(fixture.file_names(), ours, "nothing else was created");
}

// ---- two databases, one directory --------------------------------------------------

#[test]
fn databases_of_one_directory_share_a_lock() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let second = database_fixture::open(&fixture.join("y.db"));
    second.execute("CREATE TABLE entry(key)", ()).unwrap();
    assert_eq!(second.lock_file(), fixture.join("db.lock"));
    drop(second);
    assert_excluded(&fixture.join("y.db"), &fixture.path());
}

#[test]
fn a_lock_path_gives_a_database_its_own_lock() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let second = OpenOptions::new()
        .timeout(database_fixture::LONG_TIMEOUT)
        .lock_file(fixture.join("y.lock"));
    let second = second.open(fixture.join("y.db")).unwrap();
    assert_eq!(second.lock_file(), fixture.join("y.lock"));
    second.execute("CREATE TABLE entry(key)", ()).unwrap();
    let _holder = database_fixture::start_holder("hold_transaction", &fixture.path());
    database_fixture::insert(&second, "meanwhile").unwrap();
    assert!(second.status().unwrap().holder.is_none());
    assert_eq!(database_fixture::keys(&second), ["meanwhile"]);
    // A lock path in another directory works too.
    let third = OpenOptions::new().lock_file(DatabaseFixture::new().join("z.lock"));
    third.open(fixture.join("z.db")).unwrap_err();
    let third = OpenOptions::new().lock_file(fixture.join("below/z.lock"));
    fs::create_dir(fixture.join("below")).unwrap();
    let third = third.open(fixture.join("z.db")).unwrap();
    third.execute("CREATE TABLE entry(key)", ()).unwrap();
    assert_eq!(
        database_fixture::file_names(&fixture.join("below")),
        ["z.lock", "z.lockq"]
    );
}

// ---- paths that are no database ---------------------------------------------------

#[test]
fn names_without_a_file_are_refused() {
    assert_refused("", "empty");
    assert_refused(":memory:", "memory");
    assert_refused("file:x.db", "URI");
    assert_refused("file:///tmp/x.db?vfs=unix-none", "URI");
    assert_refused("/", "directory");
    assert_refused("..", "directory");
}

#[test]
fn a_directory_is_refused() {
    let fixture = DatabaseFixture::new();
    assert_refused(fixture.directory(), "directory");
    let mut slash = fixture.path().into_os_string();
    slash.push("/");
    assert_refused(slash, "directory");
    assert!(fixture.file_names().is_empty());
}

#[test]
fn a_missing_directory_is_named() {
    let fixture = DatabaseFixture::new();
    let missing = fixture.join("missing");
    let error = assert_refused(missing.join("x.db"), missing.to_str().unwrap());
    assert!(error.to_string().contains("create it"), "{error}");
    fs::write(&missing, "a file").unwrap();
    assert_refused(missing.join("x.db"), "is a file");
    assert_eq!(fixture.file_names(), ["missing"]);
}

/// Returns a path of exactly this many bytes, in a directory that exists.
fn path_of(len: usize, fixture: &DatabaseFixture) -> PathBuf {
    let mut path = fixture.directory();
    while path.as_os_str().len() + 250 < len {
        path.push("d".repeat(100));
    }
    fs::create_dir_all(&path).unwrap();
    let rest = len - path.as_os_str().len() - 1;
    path.join("x".repeat(rest))
}

#[test]
fn a_long_path_works_up_to_the_limit_of_sqlite() {
    let fixture = DatabaseFixture::new();
    let (limit, unit) = if cfg!(windows) {
        (251, "characters")
    } else {
        (504, "bytes")
    };
    let longest = path_of(limit, &fixture);
    let db = database_fixture::open(&longest);
    db.execute("CREATE TABLE entry(key)", ()).unwrap();
    database_fixture::insert(&db, "1").unwrap();
    assert_eq!(database_fixture::keys(&db), ["1"]);
    drop(db);
    plain_sqlite::assert_integrity(&longest);
    let longer = limit + 1;
    let error = assert_refused(path_of(longer, &fixture), &format!("{longer} {unit}"));
    assert!(error.to_string().contains(&limit.to_string()), "{error}");
    if cfg!(unix) {
        assert_refused(path_of(700, &fixture), "700 bytes");
    }
    // Longer than the limit of the operating system.
    Database::open(fixture.join(&"x".repeat(300))).unwrap_err();
    Database::open(fixture.join(&"x/".repeat(3000)).join("x")).unwrap_err();
}

#[test]
fn a_file_of_garbage_is_not_changed() {
    let fixture = DatabaseFixture::new();
    let short = b"short".to_vec();
    let long: Vec<u8> = (0..20_000u32).map(|n| n.to_le_bytes()[0] ^ 0x5a).collect();
    for garbage in [short, long] {
        fs::write(fixture.path(), &garbage).unwrap();
        for options in [OpenOptions::new(), OpenOptions::new().read_only(true)] {
            let error = options.open(fixture.path()).unwrap_err();
            let code = error
                .sqlite_error()
                .and_then(rusqlite::Error::sqlite_error_code);
            assert_eq!(code, Some(ErrorCode::NotADatabase), "{error}");
            assert!(error.to_string().contains("nothing was changed"), "{error}");
            assert_eq!(fs::read(fixture.path()).unwrap(), garbage);
            assert_eq!(fixture.file_names(), ["x.db"]);
        }
    }
}

#[test]
fn an_empty_file_becomes_a_database() {
    let fixture = DatabaseFixture::new();
    fs::write(fixture.path(), "").unwrap();
    database_fixture::insert(&fixture.database(), "1").unwrap();
    assert_eq!(database_fixture::keys(&fixture.database()), ["1"]);
}

#[cfg(unix)]
#[test]
fn pipes_sockets_and_devices_are_refused_at_once() {
    let fixture = DatabaseFixture::new();
    portable::make_fifo(&fixture.join("pipe"));
    assert_refused(fixture.join("pipe"), "pipe");
    let _socket = UnixListener::bind(fixture.join("socket")).unwrap();
    assert_refused(fixture.join("socket"), "socket");
    assert_refused("/dev/null", "device");
    assert_eq!(fixture.file_names(), ["pipe", "socket"]);
}

#[test]
fn a_link_or_a_directory_is_refused_as_the_lock_file() {
    let fixture = DatabaseFixture::new();
    fs::create_dir(fixture.join("db.lock")).unwrap();
    let error = Database::open(fixture.path()).unwrap_err();
    assert!(error.lock_error().is_some(), "{error}");
    assert!(error.to_string().contains("directory"), "{error}");
    fs::remove_dir(fixture.join("db.lock")).unwrap();
    if !raw_file::link(&fixture.join("elsewhere"), &fixture.join("db.lock")) {
        return;
    }
    let error = Database::open(fixture.path()).unwrap_err();
    assert!(error.to_string().contains("symbolic link"), "{error}");
    assert!(!fixture.join("elsewhere").exists());
}
