//! Programs that are missing, fail, lie or hang.

use std::thread;

use supervisor::Error;

use crate::machine::{Program, liar, nothing_is_left};
use crate::support::{Pod, eventually, lives};
use testkit::needs_host;

fn refused(pod: &Pod, program: &Program, id: &str) -> String {
    let container = program.container(pod, id, "true");
    container.write_config();
    let error = pod.client().create(&container.request).unwrap_err();
    eventually("the end of what was left", || {
        !container.dir.join("program.json").exists()
    });
    nothing_is_left(pod, &container);
    error.to_string()
}

#[test]
fn a_program_that_is_missing_or_fails_says_so_and_leaves_nothing() {
    needs_host!();
    let pod = Pod::new();
    let missing = Program {
        path: "/no/such/runtime".into(),
    };
    let words = refused(&pod, &missing, "a");
    assert!(words.contains("/no/such/runtime"), "{words}");
    let failing = liar(&pod, "failing", "echo 'no cake' >&2; exit 3");
    let words = refused(&pod, &failing, "b");
    assert!(words.contains("no cake"), "{words}");
    let silent = liar(&pod, "silent", "exit 3");
    let words = refused(&pod, &silent, "c");
    assert!(words.contains("code 3"), "{words}");
    // The pod goes on.
    pod.run("d", "true");
}

#[test]
fn a_process_that_is_not_the_programs_own_is_not_believed() {
    needs_host!();
    let pod = Pod::new();
    let other = pod.running("other", "sleep 1000");
    let others = other.state().pid.unwrap();
    for (id, write) in [
        ("none", "exit 0".to_owned()),
        ("init", "echo 1 > $pidfile".to_owned()),
        ("own", format!("echo {} > $pidfile", pod.info.pid)),
        ("this", format!("echo {} > $pidfile", std::process::id())),
        ("others", format!("echo {others} > $pidfile")),
        ("words", "echo word > $pidfile".to_owned()),
        ("long", "head -c 1000000 /dev/zero > $pidfile".to_owned()),
        ("pipe", "mkfifo $pidfile".to_owned()),
        ("link", "echo 7 > $pidfile.x; ln -s $pidfile.x $pidfile; rm $pidfile.x".to_owned()),
        // Its own, but without a cgroup.
        ("lost", "[ $verb = create ] || exit 0; sleep 1000 </dev/null >/dev/null 2>&1 & echo $! > $pidfile".to_owned()),
    ] {
        let program = liar(&pod, &format!("liar-{id}"), &write);
        let words = refused(&pod, &program, id);
        assert!(words.contains(&format!("liar-{id}")), "{words}");
    }
    assert!(lives(others) && pod.info.is_alive());
}

#[test]
fn a_program_that_hangs_holds_up_nobody_and_is_killed_for_a_removal() {
    needs_host!();
    let pod = Pod::new();
    let script = "[ $verb = create ] || exit 0\necho $$ > $pidfile.own; sleep 1000 & wait";
    let program = liar(&pod, "hangs", script);
    let container = program.container(&pod, "c", "true");
    container.write_config();
    let mut client = pod.client();
    let request = container.request.clone();
    let asking = thread::spawn(move || client.create(&request));
    let own = || {
        let mut files = std::fs::read_dir(&container.dir).unwrap();
        files.find_map(|file| {
            let path = file.unwrap().path();
            let is_it = path.extension().is_some_and(|end| end == "own");
            let text = is_it.then(|| std::fs::read_to_string(&path).unwrap())?;
            Some((path, text.trim().parse::<i32>().ok()?))
        })
    };
    eventually("the program", || own().is_some());
    let (file, pid) = own().unwrap();
    pod.run("other", "true");
    let gone = pod.client().delete("c", true).unwrap_err();
    assert!(matches!(gone, Error::NotFound { .. }), "{gone:?}");
    let told = asking.join().unwrap().unwrap_err().to_string();
    assert!(told.contains("removed while it was being made"), "{told}");
    assert!(!lives(pid));
    std::fs::remove_file(file).unwrap();
    nothing_is_left(&pod, &container);
}

#[test]
fn a_program_that_does_not_delete_is_done_without() {
    needs_host!();
    let pod = Pod::new();
    let Some(real) = Program::find("floe-runtime") else {
        return;
    };
    let script = format!(
        "[ $verb = delete ] && exit 5; exec {} \"$@\"",
        real.path.display()
    );
    let program = liar(&pod, "keeps", &script);
    let container = program.running(&pod, "c", "sleep 1000");
    pod.client().delete("c", true).unwrap();
    nothing_is_left(&pod, &container);
}
