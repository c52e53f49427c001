use super::*;
use crate::command::line::{Line, encode_chunk, encode_end, parse_line};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A directory with a socket in it; a director there answers each line by `answer` until all clients have gone.
fn scratch() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Relaxed);
    let path = std::env::temp_dir().join(format!("lvx-proc-feed-{}-{number}", std::process::id()));
    std::fs::create_dir(&path).unwrap();
    path
}

fn director(path: &Path, clients: usize, answer: fn(&str) -> Vec<u8>) -> JoinHandle<Vec<String>> {
    let listener = UnixListener::bind(path.join("socket")).unwrap();
    let serve = move || {
        let mut names = Vec::new();
        for _ in 0..clients {
            let (stream, _) = listener.accept().unwrap();
            let mut writer = stream.try_clone().unwrap();
            for line in BufReader::new(stream).lines() {
                let Line::Lvx { words, .. } = parse_line(line.unwrap().as_bytes()).unwrap() else {
                    panic!("not lvx's")
                };
                assert_eq!((words.len(), words[0].as_str()), (2, "proc"));
                writer.write_all(&answer(&words[1])).unwrap();
                names.push(words[1].clone());
            }
        }
        names
    };
    std::thread::Builder::new().spawn(serve).unwrap()
}

fn options(path: &Path) -> ProcOptions {
    ProcOptions { directory: path.to_owned(), interval_s: 1, connections: true }
}

fn texts(path: &Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(path.join("net")).unwrap().map(|entry| entry.unwrap());
    let name = |entry: &std::fs::DirEntry| entry.file_name().into_string().unwrap();
    let mut texts: Vec<_> = entries.map(|e| (name(&e), std::fs::read_to_string(e.path()).unwrap())).collect();
    texts.sort();
    texts
}

#[test]
fn each_file_has_what_the_director_says_of_it() {
    let path = scratch();
    let answer = |name: &str| [encode_chunk(&format!("{name}\n")), encode_end(0, "end\n", "")].concat();
    let asked = director(&path, 2, answer);
    once(&path.join("socket"), &options(&path)).unwrap();
    let expected = ["ip_vs", "ip_vs_app", "ip_vs_conn", "ip_vs_conn_sync", "ip_vs_stats", "ip_vs_stats_percpu"];
    assert_eq!(texts(&path), expected.map(|name| (name.to_owned(), format!("{name}\nend\n"))));
    assert_eq!(asked.join().unwrap().len(), 6);
    std::fs::remove_dir_all(path).unwrap();
}

#[test]
fn a_refusal_is_told_and_leaves_no_half_file() {
    let path = scratch();
    let answer = |_: &str| [encode_chunk("half"), encode_end(2, "", "lvxd: no\n")].concat();
    let asked = director(&path, 1, answer);
    assert_eq!(once(&path.join("socket"), &options(&path)).unwrap_err(), "lvxd: no");
    assert_eq!(asked.join().unwrap(), ["ip_vs"]);
    assert!(!path.join("net").exists());
    std::fs::remove_dir_all(path).unwrap();
}

#[test]
fn files_go_when_the_director_does_not_answer() {
    let path = scratch();
    let directory = Arc::new(Directory::open(&path).unwrap());
    directory.draft("ip_vs").unwrap().commit().unwrap();
    directory.draft("ip_vs_conn").unwrap().commit().unwrap();
    let (sender, end) = mpsc::channel();
    let mut feed = Feed::new(&SUMMARIES, 1, &directory, &path.join("nobody"), &options(&path));
    std::thread::scope(|scope| {
        scope.spawn(move || feed.run(&end));
        while path.join("net/ip_vs").exists() {
            std::thread::yield_now();
        }
        drop(sender);
    });
    let left = texts(&path);
    assert_eq!(left, [("ip_vs_conn".to_owned(), String::new())], "the other feed's files are its own");
    std::fs::remove_dir_all(path).unwrap();
}

#[test]
fn long_tables_are_written_a_tenth_of_the_time() {
    let seconds = Duration::from_secs;
    assert_eq!(pause(seconds(2), 1, seconds(0)), seconds(2));
    assert_eq!(pause(seconds(2), 1, seconds(3)), seconds(0));
    assert_eq!(pause(seconds(2), TABLE_SHARE, Duration::from_millis(100)), Duration::from_millis(1900));
    assert_eq!(pause(seconds(2), TABLE_SHARE, seconds(1)), seconds(9));
}
