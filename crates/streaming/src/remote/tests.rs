//! What is said at the end, and that nothing a process wrote is lost.

use super::*;

#[test]
fn the_end_is_said_as_each_version_has_it() {
    let failed = Err("no such container".to_owned());
    assert_eq!(Ending::Words.text(&Ok(0)), "");
    assert_eq!(
        Ending::Words.text(&Ok(7)),
        "command terminated with non-zero exit code 7"
    );
    assert_eq!(Ending::Words.text(&failed), "no such container");
    let json = |outcome: &Result<i32, String>| -> serde_json::Value {
        serde_json::from_str(&Ending::Status.text(outcome)).unwrap()
    };
    assert_eq!(json(&Ok(0))["status"], "Success");
    let code = json(&Ok(137));
    assert_eq!(code["reason"], "NonZeroExitCode");
    assert_eq!(
        code["details"]["causes"][0],
        json!({"reason": "ExitCode", "message": "137"})
    );
    assert_eq!(json(&failed)["message"], "no such container");
    assert_eq!(json(&failed)["status"], "Failure");
}
