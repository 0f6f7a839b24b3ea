//! Templates against what the real docker command line printed, and a parser that no input makes panic.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Data, Template};

fn document() -> Value {
    serde_json::from_str(include_str!("docker.json")).expect("docker.json is JSON")
}

fn render(source: &str, data: Data<'_>) -> Result<String, String> {
    Template::parse(source).and_then(|template| template.execute(data)).map_err(|error| error.to_string())
}

/// The output over `data`; an error shows as its text.
fn show(source: &str, data: &Value) -> String {
    render(source, Data::document(data)).unwrap_or_else(|error| error)
}

/// A final blank as `\s`: files keep none.
fn visible(line: &str) -> String {
    line.strip_suffix(' ').map_or_else(|| line.to_owned(), |rest| format!("{rest}\\s"))
}

#[test]
fn answers_as_docker_does() {
    let document = document();
    let lines: Vec<&str> = include_str!("docker.txt").lines().filter(|line| !line.starts_with('#')).collect();
    let mut wrong = Vec::new();
    for case in lines.chunks(2) {
        let [template, wanted] = case else { panic!("docker.txt: {case:?} has no answer") };
        let found = match render(template, Data::document(&document)) {
            Ok(output) => visible(&format!("> {}", output.replace('\n', "\\n"))),
            Err(error) => format!("! {error}"),
        };
        if found != *wanted {
            wrong.push(format!("{template}\n  docker: {wanted}\n  kiste:  {found}"));
        }
    }
    assert!(lines.len() > 100, "docker.txt has cases");
    assert!(wrong.is_empty(), "{} templates differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn rows_have_types_and_methods() {
    let row = json!({"ID": "abc", "Names": "web"});
    let label = |method: &str, name: &str| (method == "Label").then(|| format!("<{name}>"));
    let data = Data { methods: Some(&label), ..Data::typed(&row, "*formatter.ContainerContext") };
    assert_eq!(render("{{.ID}} {{.Label \"a\"}} {{$.Label \"b\"}}", data).unwrap(), "abc <a> <b>");
    assert_eq!(render("{{\"c\" | .Label}}", data).unwrap(), "<c>");
    assert_eq!(
        render("{{.Foo}}", data).unwrap_err(),
        "template: :1:2: executing \"\" at <.Foo>: can't evaluate field Foo in type *formatter.ContainerContext"
    );
    assert_eq!(
        render("{{.Names.Foo}}", data).unwrap_err(),
        "template: :1:8: executing \"\" at <.Names.Foo>: can't evaluate field Foo in type string"
    );
    assert_eq!(
        render("{{.ID \"x\"}}", data).unwrap_err(),
        "template: :1:2: executing \"\" at <.ID>: ID is not a method but has arguments"
    );
}

#[test]
fn heads_keep_their_titles() {
    let titles = json!({"ID": "CONTAINER ID"});
    let data = Data { header: true, ..Data::document(&titles) };
    assert_eq!(
        render("{{lower .ID}} {{truncate .ID 3}} {{json .ID}} {{.Nope}}", data).unwrap(),
        "CONTAINER ID CONTAINER ID CONTAINER ID <no value>"
    );
}

#[test]
fn control_structures() {
    let data = json!({"A": [1, 2, 3], "M": {"b": 2, "a": 1}, "S": "x", "Zero": 0, "Labels": {"a": "1"}});
    for (template, wanted) in [
        ("{{range .A}}{{if eq . 2}}{{continue}}{{end}}{{.}}{{end}}", "13"),
        ("{{range .A}}{{if eq . 2}}{{break}}{{end}}{{.}}{{end}}", "1"),
        ("{{range $i, $v := .A}}{{$i}}{{$v}} {{end}}", "01 12 23 "),
        ("{{range $k, $v := .M}}{{$k}}{{$v}} {{end}}", "a1 b2 "),
        ("{{$n := 0}}{{range .A}}{{$n = .}}{{end}}{{$n}}", "3"),
        ("{{if .Zero}}a{{else if .S}}b{{else}}c{{end}}", "b"),
        ("{{with .Zero}}a{{else with .S}}{{.}}{{end}}", "x"),
        ("{{with $x := .S}}{{$x}}{{$.Zero}}{{end}}", "x0"),
        ("{{range .Nope}}{{end}}", "template: :1:8: executing \"\" at <.Nope>: map has no entry for key \"Nope\""),
        ("{{.Labels.a}} {{.Labels.b}} {{index .Labels \"b\"}}.", "1 <no value> ."),
        ("a\n{{/* c */}}\n{{- .S -}}\n b", "a\nxb"),
        ("a\n  {{.Nope}}", "template: :2:4: executing \"\" at <.Nope>: map has no entry for key \"Nope\""),
        (
            "{{define \"r\"}}{{template \"r\"}}{{end}}{{template \"r\"}}",
            "template: :1:25: executing \"r\" at <{{template \"r\"}}>: exceeded maximum template depth (100)",
        ),
        ("{{define \"x\"}}{{.}}{{end}}{{range .A}}{{template \"x\" .}},{{end}}", "1,2,3,"),
        ("{{len .A | printf \"%03d\"}}", "003"),
        ("{{printf \"%v %d\" .A .A}}", "[1 2 3] [1 2 3]"),
        ("{{or (eq .S \"y\") (and .A (index .A 0))}}", "1"),
        ("{{(index .A 1)}}{{(.M).a}}", "21"),
    ] {
        assert_eq!(show(template, &data), wanted, "{template}");
    }
}

#[test]
fn parse_errors_name_the_line() {
    for (template, wanted) in [
        ("{{if .Name}}", "template: :1: unexpected EOF"),
        ("\n\n{{end}}", "template: :3: unexpected {{end}}"),
        ("{{range .A}}{{else}}{{else}}{{end}}", "template: :1: expected end; found {{else}}"),
        ("{{/* open", "template: :1: unclosed comment"),
        ("{{.A | }}", "template: :1: missing value for command"),
        ("{{#}}", "template: :1: unrecognized character in action: U+0023 '#'"),
        ("{{.A b}}", "template: :1: function \"b\" not defined"),
        ("{{if true}}{{define \"x\"}}{{end}}{{end}}", "template: :1: unexpected {{define}}"),
        ("{{range $a, $b, $c := .A}}{{end}}", "template: :1: too many declarations in range"),
    ] {
        assert_eq!(show(template, &Value::Null), wanted, "{template}");
    }
}

#[test]
fn hostile_templates_end() {
    let deep = format!("{}{}", "{{if true}}".repeat(5000), "{{end}}".repeat(5000));
    assert!(show(&deep, &Value::Null).contains("nested more than 100 deep"));
    let deep = format!("{{{{{}1{}}}}}", "(".repeat(5000), ")".repeat(5000));
    assert!(show(&deep, &Value::Null).contains("nested more than 100 deep"));
    let wide = show("{{printf \"%999999999d|%.999999999f\" 1 1.5}}", &Value::Null);
    assert!(wide.len() < 20_000, "{}", wide.len());
    let loops = "{{range 1000000}}{{range 1000000}}{{end}}{{end}}";
    assert!(show(loops, &Value::Null).contains("too much output"));
}

/// Pieces that make more valid templates than random characters do.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "{{",
        "}}",
        "{{-",
        "-}}",
        " ",
        ".",
        ".A",
        "$",
        "$x",
        ":=",
        "=",
        "|",
        "(",
        ")",
        "if",
        "else",
        "end",
        "range",
        "with",
        "break",
        "continue",
        "define",
        "template",
        "block",
        "\"s\"",
        "`r`",
        "'c'",
        "1",
        "-2",
        "1.5",
        "0x",
        "1e9",
        "nil",
        "true",
        "json",
        "index",
        "printf",
        "\"%*d%[9]s%!\"",
        "slice",
        "eq",
        "and",
        "/*",
        "*/",
        ",",
        "é",
        "\n",
        "\"\\",
        "truncate",
        "pad",
        "join",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_template_panics(source in pieces()) {
        let _ = show(&source, &json!({"A": ["é", 1, null, {"b": 2.5}], "x": "y"}));
    }

    #[test]
    fn no_text_panics(source in ".*") {
        let _ = show(&source, &Value::Null);
        let _ = show(&format!("{{{{{source}}}}}"), &Value::Null);
    }

    #[test]
    fn text_without_actions_stays(source in "[^{]*") {
        prop_assert_eq!(show(&source, &Value::Null), source);
    }

    #[test]
    fn printf_takes_any_format(format in ".*", number in any::<i64>()) {
        let data = json!({"F": format, "N": number});
        let _ = show("{{printf .F .N .F 1.5 .}}", &data);
    }
}
