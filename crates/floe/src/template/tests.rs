//! What people write for podman and skopeo. What is expected is what Debian's skopeo (Go's text/template itself)
//! prints for the same data, and for podman's functions what podman prints.

use serde_json::json;

use super::*;

fn sample() -> Value {
    json!({
        "Name": "n", "Digest": "sha256:4d2288caec53099c", "Os": "linux", "Architecture": "amd64",
        "Labels": {"a.b": "c", "k": "v"}, "Env": ["A=1", "B=two"], "Size": 3, "None": null, "Empty": "",
        "Layers": [], "LayersData": [{"MIMEType": "m", "Size": 7}], "Config": {"Env": ["A=1"]}, "Up": true,
    })
}

fn rendered(template: &str) -> Result<String, String> {
    render(template, &sample()).map_err(|error| error.to_string())
}

#[track_caller]
fn table(rows: &[(&str, &str)]) {
    for (template, expected) in rows {
        assert_eq!(rendered(template).as_deref(), Ok(*expected), "{template}");
    }
}

#[test]
fn fields_and_texts() {
    table(&[
        ("plain", "plain"),
        ("{{.Name}}@{{ .Digest }}", "n@sha256:4d2288caec53099c"),
        (
            "{{.Labels}} {{.Env}} {{.Config.Env}}",
            "map[a.b:c k:v] [A=1 B=two] [A=1]",
        ),
        ("{{.Labels.k}}{{.Labels.none}}", "v<no value>"),
        ("{{.Size}} {{.Up}}", "3 true"),
        (
            r#"{{"a \"b\""}}{{`raw\n`}}{{'a'}}{{true}}{{1.5}}"#,
            "a \"b\"raw\n97true1.5",
        ),
        ("{{/* a comment */}}x{{- /* trimmed */ -}} y", "xy"),
        ("a {{- .Size -}} b  {{- .Size }} c", "a3b3 c"),
        (r"{{.Name}}\t{{.Os}}\n", "n\tlinux\n"),
    ]);
}

#[test]
fn an_id_is_known_by_both_names_and_shown_once() {
    let value = json!({ "Id": "a", "Mounts": [{ "ID": "b" }] });
    let rendered = |template: &str| render(template, &value).unwrap();
    assert_eq!(rendered("{{.ID}} {{.Id}}"), "a a");
    assert_eq!(rendered("{{range .Mounts}}{{.Id}}{{end}}"), "b");
    assert_eq!(
        rendered("{{json .}}"),
        "{\"Id\":\"a\",\"Mounts\":[{\"ID\":\"b\"}]}"
    );
}

#[test]
fn functions_of_go() {
    table(&[
        (
            r#"{{index .Labels "a.b"}}{{index .Env 1}}{{index .Labels "none"}}|"#,
            "cB=two|",
        ),
        ("{{(index .LayersData 0).MIMEType}}", "m"),
        (r#"{{len .Env}}{{len .Labels}}{{len "héllo"}}"#, "226"),
        (
            "{{slice .Architecture 1 3}} {{slice .Env 1}} {{slice .Digest 7 19}}",
            "md [B=two] 4d2288caec53",
        ),
        (r#"{{printf "%s:%d %q" .Os 3 .Os}}"#, r#"linux:3 "linux""#),
        (
            r#"{{printf "%-8s|%8s|%.3s" .Os .Os .Os}}"#,
            "linux   |   linux|lin",
        ),
        (
            r#"{{printf "%v %v" .Env .Labels}}"#,
            "[A=1 B=two] map[a.b:c k:v]",
        ),
        (
            r#"{{printf "%05d|%x|%X|%t|%%|%.2f" 42 255 255 true 1.5}}"#,
            "00042|ff|FF|true|%|1.50",
        ),
        (
            r#"{{print .Os 1 2}}{{print "a" "b"}}{{println .Os}}"#,
            "linux1 2ablinux\n",
        ),
        (
            r#"{{html "<a&b>"}} {{js "it's"}} {{urlquery "a b&c"}}"#,
            r"&lt;a&amp;b&gt; it\'s a+b%26c",
        ),
        (r#"{{.Os | printf "%s-%s" "x"}}"#, "x-linux"),
    ]);
}

#[test]
fn functions_of_podman() {
    table(&[
        (
            "{{json .Labels}} {{.Env | json}}",
            r#"{"a.b":"c","k":"v"} ["A=1","B=two"]"#,
        ),
        (
            "{{json .Size}}{{json .None}}{{json .LayersData}}",
            r#"3null[{"MIMEType":"m","Size":7}]"#,
        ),
        (r#"{{join .Env ", "}}"#, "A=1, B=two"),
        (
            "{{upper .Os}} {{.Os | upper}} {{lower .Name}} {{title .Os}}",
            "LINUX LINUX n Linux",
        ),
        (
            r#"{{split .Os "n"}} {{index (split .Digest ":") 0}}"#,
            "[li ux] sha256",
        ),
        (
            "{{truncate .Digest 10}} {{truncate .Os 10}}",
            "sha256:4d2 linux",
        ),
        ("[{{pad .Os 2 1}}][{{pad .Empty 2 1}}]", "[  linux ][]"),
    ]);
}

#[test]
fn conditions() {
    table(&[
        (r#"{{if eq .Os "linux"}}yes{{else}}no{{end}}"#, "yes"),
        (
            r#"{{if eq .Os "a" "b" "linux"}}yes{{end}}{{if ne .Os "linux"}}no{{end}}"#,
            "yes",
        ),
        ("{{if gt (len .Env) 1}}many{{end}}", "many"),
        (
            r#"{{if le 1 2}}a{{end}}{{if lt 2 1}}b{{end}}{{if ge 2 2}}c{{end}}{{if lt "a" "b"}}d{{end}}"#,
            "acd",
        ),
        (
            r#"{{if and .Env .Labels}}both{{end}} {{or "" "x"}} {{and .Os .Name}} {{not ""}}"#,
            "both x n true",
        ),
        (
            "{{if not .Layers}}none{{else}}some{{end}}{{if .None}}a{{else}}b{{end}}",
            "noneb",
        ),
        (r#"{{if ""}}a{{else if .Os}}b{{else}}c{{end}}"#, "b"),
        (
            "{{with .Labels}}{{.k}}{{end}}{{with .Labels.zz}}[{{.}}]{{else}}none{{end}}",
            "vnone",
        ),
    ]);
}

#[test]
fn loops_and_variables() {
    table(&[
        ("{{range .Env}}<{{.}}>{{end}}!", "<A=1><B=two>!"),
        (
            "{{range .Layers}}x{{else}}none{{end}} {{range .None}}x{{else}}none{{end}}",
            "none none",
        ),
        (
            "{{range $at, $one := .Env}}{{if $at}}, {{end}}{{$one}}{{end}}",
            "A=1, B=two",
        ),
        (
            "{{range $key, $value := .Labels}}{{$key}}:{{$value}} {{end}}",
            "a.b:c k:v ",
        ),
        ("{{range .Env}}{{$.Os}} {{end}}", "linux linux "),
        (
            r#"{{range .Env}}{{if eq . "A=1"}}{{continue}}{{end}}{{.}}{{end}}"#,
            "B=two",
        ),
        ("{{range .Env}}{{.}}{{break}}{{end}}", "A=1"),
        (
            "{{$x := .Os}}{{$x}}-{{$x}} {{$y := 1}}{{$y = 2}}{{$y}}",
            "linux-linux 2",
        ),
        (
            "{{with $x := .Os}}{{$x}}{{end}}{{$l := .Labels}}{{$l.k}}",
            "linuxv",
        ),
        (
            r#"{{define "t"}}<{{.}}>{{end}}{{template "t" .Os}}"#,
            "<linux>",
        ),
    ]);
}

#[test]
fn what_is_not_understood_is_an_error() {
    for (template, why) in [
        ("{{.Nmae}}", "Nmae"),
        ("{{.Config.Evn}}", "Evn"),
        ("{{.Name", "unclosed"),
        ("{{nonesuch .Name}}", "nonesuch"),
        ("{{range .Env}}", "unexpected"),
        ("{{end}}", "unexpected"),
        ("{{index .Env 7}}", "list of 2"),
        ("{{upper .Size}}", "wants a text"),
        ("{{join .Name 1}}", "wants a list"),
        (r#"{{join .Env}}"#, "exactly 2"),
        // Whoever writes such a thing is told so, and nothing is eaten up.
        (
            r#"{{define "t"}}{{template "t" .}}{{end}}{{template "t" .}}"#,
            "template",
        ),
        ("{{range 1000000000}}x{{end}}", "template"),
    ] {
        let error = rendered(template).unwrap_err();
        assert!(error.contains(why), "{template}: {error}");
    }
}

#[test]
fn a_table_has_a_header_and_columns() {
    let header = json!({"ID": "ID", "Size": "SIZE"});
    let rows = [
        json!({"ID": "abcdef", "Size": "1 MB"}),
        json!({"ID": "b", "Size": "20 kB"}),
    ];
    for format in ["table {{.ID}} {{.Size}}", r"table {{.ID}}\t{{ .Size }}"] {
        let expected = "ID      SIZE\nabcdef  1 MB\nb       20 kB\n";
        assert_eq!(lines(format, &header, &rows).unwrap(), expected, "{format}");
    }
    assert_eq!(lines("{{.ID}}", &header, &rows).unwrap(), "abcdef\nb\n");
}
