//! Results as JUnit's XML, which CI systems read. The words in it are a runtime's: must be well-formed whatever
//! they are.

use std::fmt::Write as _;
use std::path::Path;

use super::check::Fault;
use super::report::{Done, Summary};
use crate::failure::{Context, Outcome};
use crate::xml::escaped;

/// Writes the whole file, or leaves what is there.
pub(crate) fn write(path: &Path, text: &str) -> Outcome {
    crate::file::replace(path, text, 0o644).context(format!("write {}", path.display()))
}

/// The whole text.
pub(crate) fn text(summary: &Summary) -> String {
    let counts = summary.counts();
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <testsuites name=\"cri validate\" tests=\"{}\" failures=\"{}\" skipped=\"{}\" errors=\"0\" time=\"{:.3}\">\n",
        summary.done.len(),
        counts.failed,
        counts.skipped,
        summary.took.as_secs_f64()
    );
    for group in super::GROUPS {
        let ours = summary.done.iter().filter(|done| done.group == group.name);
        let ours: Vec<&Done> = ours.collect();
        if !ours.is_empty() {
            suite(&mut out, group.name, summary, &ours);
        }
    }
    out += "</testsuites>\n";
    out
}

fn suite(out: &mut String, group: &str, summary: &Summary, done: &[&Done]) {
    let count = |is: fn(&Done) -> bool| done.iter().filter(|one| is(one)).count();
    let failed = count(|one| matches!(one.verdict, Err(Fault::Failed { .. })));
    let skipped = count(|one| matches!(one.verdict, Err(Fault::Skipped(_))));
    let took: f64 = done.iter().map(|one| one.took.as_secs_f64()).sum();
    // Nothing that is written to a String fails.
    let _ = writeln!(
        out,
        "  <testsuite name=\"{group}\" tests=\"{}\" failures=\"{failed}\" skipped=\"{skipped}\" errors=\"0\" time=\"{took:.3}\">",
        done.len()
    );
    let _ = writeln!(
        out,
        "    <properties><property name=\"runtime\" value=\"{} {}\"/><property name=\"image\" value=\"{}\"/></properties>",
        escaped(&summary.version.runtime_name),
        escaped(&summary.version.runtime_version),
        escaped(&summary.image)
    );
    for one in done {
        let _ = write!(
            out,
            "    <testcase classname=\"cri.{group}\" name=\"{} {}: {}\" time=\"{:.3}\"",
            one.check.number,
            one.check.name,
            escaped(one.check.proves),
            one.took.as_secs_f64()
        );
        *out += &match &one.verdict {
            Ok(()) => "/>\n".to_owned(),
            Err(Fault::Skipped(why)) => {
                format!(
                    ">\n      <skipped message=\"{}\"/>\n    </testcase>\n",
                    escaped(why)
                )
            }
            Err(Fault::Failed { expected, found }) => format!(
                ">\n      <failure type=\"{}\" message=\"expected {}\">found {}</failure>\n    </testcase>\n",
                escaped(one.check.rule),
                escaped(expected),
                escaped(found)
            ),
        };
    }
    *out += "  </testsuite>\n";
}
