//! `floe system df`, `prune` and `reset`: what all of it takes, and how it goes.

use crate::cli::machine;

#[test]
fn what_all_takes_is_counted_and_what_nothing_uses_goes() {
    machine(|floe| {
        let row = |kind: &str| {
            let format = "{{.Type}} {{.Total}} {{.Active}} {{.RawSize}} {{.RawReclaimable}}";
            let all = floe.floe(&["system", "df", "--format", format]).ok();
            let line = all.lines().find(|line| line.starts_with(kind));
            let numbers = line.expect("a line").trim_start_matches(kind);
            let numbers = numbers.split_whitespace().map(|text| text.parse::<u64>());
            numbers
                .map(|number| number.expect("a number"))
                .collect::<Vec<_>>()
        };
        assert_eq!(row("Images"), [0; 4]);
        floe.background("busy", "sleep 1000");
        floe.run(
            &["--name", "ended", "-v", "kept:/v", "-v", "/anonymous"],
            &["sh", "-c", "head -c 100000 /dev/zero | tee /file > /v/file"],
        )
        .ok();
        floe.floe(&["tag", &floe.image, "localhost/second:1"]).ok();
        let images = row("Images");
        assert_eq!(images[..2], [1, 1]);
        assert!(images[2] > 500_000 && images[3] == 0, "{images:?}");
        let containers = row("Containers");
        assert_eq!(containers[..2], [2, 1]);
        assert!(containers[3] >= 100_000, "{containers:?}");
        let volumes = row("Local Volumes");
        assert_eq!(volumes[..2], [2, 2]);
        assert!(volumes[2] >= 100_000 && volumes[3] == 0, "{volumes:?}");
        let table = floe.floe(&["system", "df"]).ok();
        assert!(table.starts_with("TYPE  "), "{table}");
        let each = floe.floe(&["system", "df", "-v"]).ok();
        for part in ["Images space usage:", "ended", "kept", "UNIQUE SIZE"] {
            assert!(each.contains(part), "{each}");
        }

        // Nobody is there to say yes.
        let asked = floe.floe(&["system", "prune"]);
        assert!(
            asked.err.contains("WARNING!") || asked.out.contains("WARNING!"),
            "{asked:?}"
        );
        assert_eq!(row("Containers")[0], 2);
        let said = floe.floe(&["system", "prune", "-f", "-a"]).ok();
        assert!(said.contains("Deleted Containers"), "{said}");
        assert!(said.contains("Total reclaimed space: "), "{said}");
        assert_eq!(floe.listed(&["-a"]), ["busy"]);
        assert_eq!(row("Images")[0], 1);
        assert_eq!(row("Local Volumes")[0], 2);
        let said = floe.floe(&["system", "prune", "-f", "--volumes"]).ok();
        assert!(
            said.contains("Deleted Volumes") && said.contains("kept"),
            "{said}"
        );
        floe.floe(&["network", "create", "unused"]).ok();
        let said = floe.floe(&["system", "prune", "-f"]).ok();
        assert!(said.contains("Deleted Networks\nunused"), "{said}");
        floe.floe(&["system", "reset", "-f"]).ok();
        assert_eq!(floe.listed(&["-a"]), [""; 0]);
        assert_eq!(floe.floe(&["images", "-q"]).ok(), "");
        assert_eq!(row("Images"), [0; 4]);
        assert!(
            floe.floe(&["system", "info", "-f", "{{.Host.Arch}}"])
                .ok()
                .len()
                > 2
        );
    });
}
