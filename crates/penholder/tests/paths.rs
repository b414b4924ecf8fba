//! Paths: every name of a database leads to one lock file; what is no database
//! is refused with the reason, and nothing is created or changed.
#![cfg(test)]

#[path = "../../penholder-lock/tests/peer/mod.rs"]
mod peer;
mod site;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use peer::Peer;
use penholder::{Database, Error, Options};
use rusqlite::ErrorCode;
use site::Site;

#[test]
fn peer() {
    peer::play(&[("hold", site::hold), ("wander", wander)]);
}

/// Asserts that a name is refused, for this reason, at once.
fn assert_refused(path: impl AsRef<Path>, why: &str) -> Error {
    let (opened, took) = site::timed(|| Database::open(&path));
    let error = opened.unwrap_err();
    assert!(error.is_refused(), "{:?}: {error}", path.as_ref());
    assert!(error.to_string().contains(why), "{error}");
    assert!(took < site::PROMPT, "{took:?}");
    error
}

/// Asserts that whoever writes under this name waits for who writes under the
/// other.
fn assert_excluded(path: &Path, holder_path: &Path) {
    let options = Options::new().timeout(Duration::from_millis(100));
    let db = options.open(path).unwrap();
    let mut holder = site::holder("hold", holder_path);
    let error = site::insert(&db, "no").unwrap_err();
    assert!(error.is_timeout() && !error.is_busy(), "{error}");
    assert_eq!(error.holder().unwrap().pid, Some(holder.pid()), "{error}");
    holder.tell("release");
    holder.expect("released");
}

// ---- other names of one database ---------------------------------------------

#[test]
fn symbolic_links_lead_to_one_lock() {
    let (site, elsewhere) = (Site::new(), Site::new());
    drop(site.database());
    let (direct, relative) = (elsewhere.at("direct.db"), site.at("relative.db"));
    symlink(site.path(), &direct).unwrap();
    symlink("./x.db", &relative).unwrap();
    let folder = elsewhere.at("folder");
    symlink(site.folder(), &folder).unwrap();
    for name in [direct.clone(), relative, folder.join("x.db")] {
        let db = site::open(&name);
        assert_eq!(db.path(), site.path());
        assert_eq!(db.lock_file(), site.at("db.lock"));
        drop(db);
        assert_excluded(&name, &site.path());
        assert_excluded(&site.path(), &name);
    }
    assert_eq!(elsewhere.files(), ["direct.db", "folder"]);
}

#[test]
fn dangling_link_creates_what_it_names() {
    let (site, elsewhere) = (Site::new(), Site::new());
    let link = elsewhere.at("link.db");
    symlink(site.path(), &link).unwrap();
    let db = site::open(&link);
    assert_eq!(db.path(), site.path());
    db.execute("CREATE TABLE entry(key)", ()).unwrap();
    drop(db);
    assert_eq!(site.files(), ["db.lock", "db.lockq", "x.db"]);
    assert_eq!(elsewhere.files(), ["link.db"]);
    assert_excluded(&link, &site.path());
    let nowhere = elsewhere.at("nowhere.db");
    symlink(elsewhere.at("missing/x.db"), &nowhere).unwrap();
    assert_refused(&nowhere, "missing");
    let circle = elsewhere.at("circle.db");
    symlink(&circle, &circle).unwrap();
    assert_refused(&circle, "links");
}

/// Opens by a relative path, and goes elsewhere.
fn wander(args: &[OsString]) {
    std::env::set_current_dir(&args[0]).unwrap();
    let db = site::open(Path::new("x.db"));
    std::env::set_current_dir("/").unwrap();
    site::insert(&db, "from afar").unwrap();
    assert_eq!(site::keys(&db), ["from afar"]);
    // Each opens one more connection.
    let all = db.read(|_| -> penholder::Result<i64> { Ok(site::entries(&db)) });
    assert_eq!(all.unwrap(), 1);
    db.checkpoint().unwrap();
    peer::say(db.path().to_str().unwrap());
    peer::say(db.lock_file().to_str().unwrap());
}

#[test]
fn relative_path_outlives_a_change_of_folder() {
    let site = Site::new();
    drop(site.database());
    let mut peer = Peer::start("wander", [site.folder()]);
    peer.expect(site.path().to_str().unwrap());
    peer.expect(site.at("db.lock").to_str().unwrap());
    assert!(peer.end().success());
    assert_eq!(site::keys(&site.database()), ["from afar"]);
}

#[test]
fn dots_and_slashes_change_nothing() {
    let site = Site::new();
    drop(site.database());
    let name = site.folder().file_name().unwrap().to_owned();
    let roundabout = site.folder().join("..").join(name).join(".//x.db");
    assert_eq!(site::open(&roundabout).path(), site.path());
    assert_excluded(&roundabout, &site.path());
}

#[test]
fn hard_link_is_warned_about() {
    let site = Site::new();
    let db = site.database();
    assert!(db.warnings().is_empty());
    drop(db);
    fs::hard_link(site.path(), site.at("second.db")).unwrap();
    let db = site::open(&site.path());
    let [warning] = db.warnings() else {
        panic!("{:?}", db.warnings());
    };
    assert!(
        warning.contains("2 names") && warning.contains("x.db"),
        "{warning}"
    );
    site::insert(&db, "works").unwrap();
}

#[test]
fn any_bytes_are_a_name() {
    let site = Site::new();
    for name in [
        &b"\xff\xfe.db"[..],
        b"new\nline.db",
        b" space ",
        b"100%25?mode=ro#x",
        b"'; DROP TABLE entry; --",
        b"-wal",
        "größe.db".as_bytes(),
    ] {
        let path = site.folder().join(OsStr::from_bytes(name));
        let db = site::open(&path);
        db.execute("CREATE TABLE entry(key)", ()).unwrap();
        site::insert(&db, "1").unwrap();
        assert_eq!(site::keys(&db), ["1"], "{path:?}");
        let copy = site.folder().join(OsStr::from_bytes(b"copy\xff"));
        db.backup_to(&copy).unwrap();
        drop(db);
        assert!(path.is_file());
        fs::remove_file(path).unwrap();
        assert_eq!(site::keys(&site::open(&copy)), ["1"]);
        fs::remove_file(copy).unwrap();
    }
    let ours = ["db.lock", "db.lockq"];
    assert_eq!(site.files(), ours, "nothing else was created");
}

// ---- two databases, one folder --------------------------------------------------

#[test]
fn databases_of_one_folder_share_a_lock() {
    let site = Site::new();
    drop(site.database());
    let second = site::open(&site.at("y.db"));
    second.execute("CREATE TABLE entry(key)", ()).unwrap();
    assert_eq!(second.lock_file(), site.at("db.lock"));
    drop(second);
    assert_excluded(&site.at("y.db"), &site.path());
}

#[test]
fn lock_path_separates_them() {
    let site = Site::new();
    drop(site.database());
    let second = Options::new()
        .timeout(site::PATIENT)
        .lock_path(site.at("y.lock"));
    let second = second.open(site.at("y.db")).unwrap();
    assert_eq!(second.lock_file(), site.at("y.lock"));
    second.execute("CREATE TABLE entry(key)", ()).unwrap();
    let _holder = site::holder("hold", &site.path());
    site::insert(&second, "meanwhile").unwrap();
    assert!(second.status().unwrap().holder.is_none());
    assert_eq!(site::keys(&second), ["meanwhile"]);
    // A lock path in another folder does as well.
    let third = Options::new().lock_path(Site::new().at("z.lock"));
    third.open(site.at("z.db")).unwrap_err();
    let third = Options::new().lock_path(site.at("below/z.lock"));
    fs::create_dir(site.at("below")).unwrap();
    let third = third.open(site.at("z.db")).unwrap();
    third.execute("CREATE TABLE entry(key)", ()).unwrap();
    assert_eq!(site::files(&site.at("below")), ["z.lock", "z.lockq"]);
}

// ---- no database ------------------------------------------------------------------

#[test]
fn names_without_a_file_are_refused() {
    assert_refused("", "empty");
    assert_refused(":memory:", "memory");
    assert_refused("file:x.db", "URI");
    assert_refused("file:///tmp/x.db?vfs=unix-none", "URI");
    assert_refused("/", "folder");
    assert_refused("..", "folder");
}

#[test]
fn folder_is_refused() {
    let site = Site::new();
    assert_refused(site.folder(), "folder");
    let mut slash = site.path().into_os_string();
    slash.push("/");
    assert_refused(slash, "folder");
    assert!(site.files().is_empty());
}

#[test]
fn missing_folder_is_named() {
    let site = Site::new();
    let missing = site.at("missing");
    let error = assert_refused(missing.join("x.db"), missing.to_str().unwrap());
    assert!(error.to_string().contains("create it"), "{error}");
    fs::write(&missing, "a file").unwrap();
    assert_refused(missing.join("x.db"), "is a file");
    assert_eq!(site.files(), ["missing"]);
}

/// A path of exactly this many bytes, in a folder that exists.
fn path_of(len: usize, site: &Site) -> PathBuf {
    let mut path = site.folder();
    while path.as_os_str().len() + 250 < len {
        path.push("d".repeat(100));
    }
    fs::create_dir_all(&path).unwrap();
    let rest = len - path.as_os_str().len() - 1;
    path.join("x".repeat(rest))
}

#[test]
fn long_path_works_up_to_what_sqlite_takes() {
    let site = Site::new();
    let longest = path_of(504, &site);
    let db = site::open(&longest);
    db.execute("CREATE TABLE entry(key)", ()).unwrap();
    site::insert(&db, "1").unwrap();
    assert_eq!(site::keys(&db), ["1"]);
    drop(db);
    site::assert_whole(&longest);
    let error = assert_refused(path_of(505, &site), "505 bytes");
    assert!(error.to_string().contains("504"), "{error}");
    assert_refused(path_of(700, &site), "700 bytes");
    // Longer than the system itself takes.
    Database::open(site.at(&"x".repeat(300))).unwrap_err();
    Database::open(site.at(&"x/".repeat(3000)).join("x")).unwrap_err();
}

#[test]
fn garbage_is_left_as_it_is() {
    let site = Site::new();
    let short = b"short".to_vec();
    let long: Vec<u8> = (0..20_000u32).map(|n| n.to_le_bytes()[0] ^ 0x5a).collect();
    for garbage in [short, long] {
        fs::write(site.path(), &garbage).unwrap();
        for options in [Options::new(), Options::new().read_only(true)] {
            let error = options.open(site.path()).unwrap_err();
            let code = error
                .sqlite_error()
                .and_then(rusqlite::Error::sqlite_error_code);
            assert_eq!(code, Some(ErrorCode::NotADatabase), "{error}");
            assert!(error.to_string().contains("nothing was changed"), "{error}");
            assert_eq!(fs::read(site.path()).unwrap(), garbage);
            assert_eq!(site.files(), ["x.db"]);
        }
    }
}

#[test]
fn empty_file_becomes_a_database() {
    let site = Site::new();
    fs::write(site.path(), "").unwrap();
    site::insert(&site.database(), "1").unwrap();
    assert_eq!(site::keys(&site.database()), ["1"]);
}

#[test]
fn pipes_sockets_and_devices_are_refused_at_once() {
    let site = Site::new();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, site.at("pipe"), fifo, 0o644.into(), 0).unwrap();
    assert_refused(site.at("pipe"), "pipe");
    let _socket = UnixListener::bind(site.at("socket")).unwrap();
    assert_refused(site.at("socket"), "socket");
    assert_refused("/dev/null", "device");
    assert_eq!(site.files(), ["pipe", "socket"]);
}

#[test]
fn lock_file_is_never_a_link_or_a_folder() {
    let site = Site::new();
    fs::create_dir(site.at("db.lock")).unwrap();
    let error = Database::open(site.path()).unwrap_err();
    assert!(error.lock_error().is_some(), "{error}");
    assert!(error.to_string().contains("folder"), "{error}");
    fs::remove_dir(site.at("db.lock")).unwrap();
    symlink(site.at("elsewhere"), site.at("db.lock")).unwrap();
    let error = Database::open(site.path()).unwrap_err();
    assert!(error.to_string().contains("symbolic link"), "{error}");
    assert!(!site.at("elsewhere").exists());
}
