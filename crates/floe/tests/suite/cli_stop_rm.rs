//! `floe stop` and `floe rm`.

use crate::cli::machine;

#[test]
fn stop_asks_first_and_kills_after_the_time() {
    machine(|floe| {
        let polite = "trap 'echo asked; exit 0' TERM; echo ready; while :; do sleep 0.1; done";
        floe.background("polite", polite);
        floe.background(
            "deaf",
            "trap '' TERM; echo ready; while :; do sleep 0.1; done",
        );
        for name in ["polite", "deaf"] {
            crate::cli::until("it is ready", || {
                floe.floe(&["logs", name]).out.contains("ready")
            });
        }
        assert_eq!(floe.floe(&["stop", "polite"]).ok(), "polite");
        assert_eq!(floe.floe(&["logs", "polite"]).ok(), "ready\nasked");
        assert_eq!(floe.floe(&["stop", "-t", "1", "deaf"]).ok(), "deaf");
        let table = floe.floe(&["ps", "-a"]).ok();
        assert!(
            table.contains("Exited (0)") && table.contains("Exited (137)"),
            "{table}"
        );
        // Once more is no error.
        floe.floe(&["stop", "polite"]).ok();
    });
}

#[test]
fn all_means_all_that_people_made() {
    machine(|floe| {
        floe.background("a", "sleep 1000");
        floe.background("b", "sleep 1000");
        let stopped = floe.floe(&["stop", "-t", "0", "--all"]).ok();
        assert_eq!(stopped.lines().count(), 2, "{stopped}");
        assert_eq!(floe.listed(&[]), [""; 0]);
        let removed = floe.floe(&["rm", "--all"]).ok();
        assert_eq!(removed.lines().count(), 2, "{removed}");
        assert_eq!(floe.listed(&["-a"]), [""; 0]);
    });
}

#[test]
fn rm_wants_it_stopped_unless_forced() {
    machine(|floe| {
        let id = floe.background("box", "sleep 1000");
        let said = floe.floe(&["rm", "box"]);
        assert_eq!(said.code, 2);
        assert!(said.err.contains("running"), "{said:?}");
        assert_eq!(floe.listed(&[]), ["box"]);
        floe.floe(&["rm", "-f", "-t", "0", &id[..12]]).ok();
        assert_eq!(floe.listed(&["-a"]), [""; 0]);
    });
}

#[test]
fn what_is_not_there_is_an_error_unless_forced_and_the_others_still_go() {
    machine(|floe| {
        floe.run(&["--name", "box"], &["true"]).ok();
        let said = floe.floe(&["rm", "nobody", "box"]);
        assert_eq!((said.code, said.out.trim()), (1, "box"), "{said:?}");
        assert!(said.err.contains("no such container"), "{said:?}");
        floe.floe(&["rm", "-f", "nobody"]).ok();
        floe.floe(&["stop", "nobody"])
            .failed(125, &["no such container"]);
        floe.floe(&["rm"]).failed(125, &["CONTAINER"]);
    });
}
