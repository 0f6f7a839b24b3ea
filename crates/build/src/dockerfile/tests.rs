//! What the language means, instruction by instruction, and what is wrong in it.

use super::*;

fn file(source: &str) -> Dockerfile {
    parse(source.as_bytes()).unwrap_or_else(|errors| panic!("{source}: {errors:?}"))
}

/// The only instruction behind a FROM.
fn one(line: &str) -> Instruction {
    one_with(line, '\\')
}

fn one_with(line: &str, escape: char) -> Instruction {
    let mut file = file(&format!("# escape={escape}\nFROM x\n{line}\n"));
    let steps = std::mem::take(&mut file.stages[0].steps);
    let [step] = <[Step; 1]>::try_from(steps).unwrap_or_else(|steps| panic!("{line}: {steps:?}"));
    step.instruction
}

fn error(source: &str) -> String {
    let errors = parse(source.as_bytes()).expect_err(source);
    errors
        .iter()
        .map(|error| format!("{}: {error}", error.span.unwrap_or_default().first))
        .collect::<Vec<_>>()
        .join("; ")
}

fn shell(words: &str) -> CommandLine {
    CommandLine { words: vec![words.to_owned()], shell: true, files: Vec::new() }
}

fn exec(words: &[&str]) -> CommandLine {
    CommandLine { words: words.iter().map(|word| (*word).to_owned()).collect(), shell: false, files: Vec::new() }
}

fn run(line: &str) -> Run {
    match one(line) {
        Instruction::Run(run) => *run,
        other => panic!("{other:?}"),
    }
}

#[test]
fn stages_and_global_arguments() {
    let file =
        file("# syntax=docker/dockerfile:1\nARG V=1\nfrom --platform=linux/arm64 a as Build\nRUN x\nFROM build\n");
    assert_eq!(file.syntax.as_deref(), Some("docker/dockerfile:1"));
    assert_eq!(file.globals.len(), 1);
    let [first, second] = &file.stages[..] else { panic!("{file:?}") };
    assert_eq!((first.from.base.as_str(), first.from.name.as_deref()), ("a", Some("build")));
    assert_eq!(first.from.platform.as_deref(), Some("linux/arm64"));
    assert_eq!((first.span, first.steps[0].span), (Span::line(3), Span::line(4)));
    assert_eq!(second.from, From { base: "build".to_owned(), ..From::default() });
}

#[test]
fn continuations_and_comments() {
    let source = "\u{feff}# first\n\n  FROM x\n# about\n# RUN\nRUN a \\\n# inside\n\n   b \\  \n  && c\n";
    let file = file(source);
    let step = &file.stages[0].steps[0];
    assert_eq!(step.code, "RUN a    b   && c");
    assert_eq!(step.comments, ["about", "RUN"]);
    assert_eq!((step.span.first, step.span.last), (6, 10));
    assert_eq!(file.warnings.len(), 1);
    assert!(file.warnings[0].0.starts_with("Empty continuation line found in: RUN a"), "{:?}", file.warnings);
    assert_eq!(
        one("RUN echo a\\\\"),
        Instruction::Run(Box::new(Run { command: shell("echo a\\\\"), ..Run::default() }))
    );
    assert_eq!(run("RUN end \\").command, shell("end"));
    assert_eq!(run("RUN\ta\r").command, shell("a"));
}

#[test]
fn directives() {
    let file = file("#  Escape = `\n#check=skip=all\nFROM x\nRUN a `\nb C:\\x\n");
    assert_eq!((file.escape, file.check.as_deref()), ('`', Some("skip=all")));
    assert_eq!(file.stages[0].steps[0].code, "RUN a b C:\\x");
    // Behind any other line they are comments.
    assert_eq!(parse(b"# x\n# escape=`\nFROM x").unwrap().escape, '\\');
    assert_eq!(parse(b"FROM x\n# escape=`").unwrap().escape, '\\');
    assert_eq!(error("# escape=x\nFROM x"), "1: invalid escape token 'x' does not match ` or \\");
    assert_eq!(error("# escape=`\n# ESCAPE=`\nFROM x"), "2: only one escape parser directive can be used");
}

#[test]
fn commands_in_both_forms() {
    assert_eq!(one("CMD echo  $x \"y\""), Instruction::Cmd(shell("echo  $x \"y\"")));
    assert_eq!(one("CMD [\"a\", \"b c\"]"), Instruction::Cmd(exec(&["a", "b c"])));
    assert_eq!(one("CMD []"), Instruction::Cmd(exec(&[])));
    assert_eq!(one("ENTRYPOINT [ 'a' ]"), Instruction::Entrypoint(shell("[ 'a' ]")));
    assert_eq!(one("ENTRYPOINT [\"a\""), Instruction::Entrypoint(shell("[\"a\"")));
    assert_eq!(one("SHELL [\"/bin/sh\", \"-c\"]"), Instruction::Shell(vec!["/bin/sh".into(), "-c".into()]));
    for (line, expected) in [
        ("CMD [\"a\", 1]", "arrays must be comprised of strings only"),
        ("SHELL sh -c", "SHELL requires the arguments to be in JSON form"),
        ("SHELL []", "at least one argument"),
    ] {
        assert!(error(&format!("FROM x\n{line}")).contains(expected), "{line}");
    }
}

#[test]
fn pairs_and_arguments() {
    let pair = |key: &str, value: &str, spaced| Pair { key: key.into(), value: value.into(), spaced };
    assert_eq!(one("ENV a=b"), Instruction::Env(vec![pair("a", "b", false)]));
    assert_eq!(one("ENV a  b  c=d "), Instruction::Env(vec![pair("a", "b  c=d", true)]));
    assert_eq!(
        one("ENV a=\"b c\" d='e f' g=h\\ i j="),
        Instruction::Env(vec![
            pair("a", "\"b c\"", false),
            pair("d", "'e f'", false),
            pair("g", "h\\ i", false),
            pair("j", "", false)
        ])
    );
    assert_eq!(one_with("LABEL a=b` c", '`'), Instruction::Label(vec![pair("a", "b` c", false)]));
    let argument = |key: &str, value: Option<&str>| Argument { key: key.into(), value: value.map(str::to_owned) };
    assert_eq!(
        one("ARG a b= c=\"d e\""),
        Instruction::Arg(vec![argument("a", None), argument("b", Some("")), argument("c", Some("\"d e\""))])
    );
    for (line, expected) in [
        ("ENV a", "ENV must have two arguments"),
        ("ENV a=b c", "Syntax error - can't find = in \"c\". Must be of the form: name=value"),
        ("ENV =b", "ENV names can not be blank"),
        ("ENV", "ENV requires at least one argument"),
        ("ARG =b", "ARG names can not be blank"),
        ("LABEL", "LABEL requires at least one argument"),
    ] {
        assert_eq!(error(&format!("FROM x\n{line}")), format!("2: {expected}"), "{line}");
    }
}

#[test]
fn copies() {
    let Instruction::Copy(copy) =
        one("COPY --from=build --chown=1:2 --chmod=755 --link --parents --exclude=a --exclude=b x y /z/")
    else {
        panic!()
    };
    assert_eq!((copy.from.as_str(), copy.chown.as_str(), copy.chmod.as_str()), ("build", "1:2", "755"));
    assert!(copy.link && copy.parents);
    assert_eq!(copy.exclude, ["a", "b"]);
    assert_eq!((copy.sources.paths.join(" "), copy.sources.destination.as_str()), ("x y".to_owned(), "/z/"));
    let Instruction::Add(add) = one("ADD --keep-git-dir=false --checksum=sha256:x --unpack [\"a b\", \"/c\"]") else {
        panic!()
    };
    assert_eq!((add.keep_git_dir, add.unpack, add.checksum.as_str()), (Some(false), Some(true), "sha256:x"));
    assert_eq!(add.sources.paths, ["a b"]);
    for (line, expected) in [
        (
            "COPY a",
            "COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        ("COPY --form=a b c", "unknown flag: --form (did you mean from?)"),
        ("COPY --link=no a b", "expecting boolean value for flag --link, not: no"),
        ("COPY --link= a b", "missing a value on flag: --link"),
        ("COPY --from a b", "missing a value on flag: --from"),
        ("COPY --from=a --from=b a b", "duplicate flag specified: --from"),
        ("COPY a <<E\nx\nE", "COPY cannot accept a heredoc as a destination"),
    ] {
        assert_eq!(error(&format!("FROM x\n{line}")), format!("2: {expected}"), "{line}");
    }
}

fn has_no_documents(line: &str) -> bool {
    file(&format!("FROM x\n{line}\nRUN x")).stages[0].steps.len() == 2
}

#[test]
fn here_documents() {
    let source = "FROM x\nRUN <<EOF cat >a && cat <<-'E 2' | b\none $x\nEOF\n\ttwo\n\tE 2\nCOPY <<a <<\"b\" c /d/\nA\na\nB\nb\nRUN x";
    let file = file(source);
    let [first, copy, last] = &file.stages[0].steps[..] else { panic!("{file:?}") };
    let Instruction::Run(run) = &first.instruction else { panic!() };
    assert_eq!(run.command.words, ["<<EOF cat >a && cat <<-'E 2' | b"]);
    let files: Vec<_> = run.command.files.iter().map(|f| (f.name.as_str(), f.data.as_str(), f.chomp)).collect();
    assert_eq!(files, [("EOF", "one $x\n", false), ("E 2", "\ttwo\n", true)]);
    assert_eq!((first.span.first, first.span.last, last.span.first), (2, 6, 12));
    let Instruction::Copy(copy) = &copy.instruction else { panic!() };
    assert_eq!(copy.sources.inline, [("a".into(), "A\n".into(), true), ("b".into(), "B\n".into(), false)]);
    assert_eq!(copy.sources.paths, ["c"]);
    // A shift or a here-string is none.
    assert!(has_no_documents("RUN echo $((1<<2)) <<<x"));
    assert!(has_no_documents("CMD cat <<EOF"));
    assert!(has_no_documents("RUN [\"a\", \"<<EOF\"]"));
    assert_eq!(error("FROM x\nRUN <<EOF\na"), "2: unterminated heredoc");
}

#[test]
fn triggers() {
    assert_eq!(one("ONBUILD  RUN a  b"), Instruction::Onbuild("RUN a  b".into()));
    assert_eq!(one("ONBUILD COPY <<E /x\nhi\nE"), Instruction::Onbuild("COPY <<E /x\nhi\nE".into()));
    let step = parse_trigger("COPY <<E /x\nhi\nE", '\\').unwrap();
    assert!(matches!(step.instruction, Instruction::Copy(copy) if copy.sources.inline.len() == 1));
    for (line, expected) in [
        ("ONBUILD", "ONBUILD requires at least one argument"),
        ("ONBUILD onbuild RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD RUNN x", "unknown instruction: RUNN (did you mean RUN?)"),
    ] {
        assert_eq!(error(&format!("FROM x\n{line}")), format!("2: {expected}"), "{line}");
    }
    assert!(parse_trigger("FROM x", '\\').is_err());
    assert!(parse_trigger("RUN a\nRUN b", '\\').is_err());
}

#[test]
fn health_checks() {
    assert_eq!(
        one("HEALTHCHECK --interval=5s --timeout=1m30s --start-period=0 --start-interval=1.5s --retries=3 CMD a b"),
        Instruction::Healthcheck(Healthcheck {
            test: vec!["CMD-SHELL".into(), "a b".into()],
            interval: 5_000_000_000,
            timeout: 90_000_000_000,
            start_period: 0,
            start_interval: 1_500_000_000,
            retries: 3,
        })
    );
    let Instruction::Healthcheck(check) = one("HEALTHCHECK cmd [\"a\"]") else { panic!() };
    assert_eq!(check.test, ["CMD", "a"]);
    for (line, expected) in [
        ("HEALTHCHECK", "requires at least one argument"),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK FOO x", "Unknown type \"FOO\" in HEALTHCHECK (try CMD)"),
        ("HEALTHCHECK --interval=1us CMD x", "cannot be less than 1ms"),
        ("HEALTHCHECK --interval=x CMD x", "invalid duration"),
        ("HEALTHCHECK --retries=-1 CMD x", "--retries cannot be negative (-1)"),
    ] {
        assert!(error(&format!("FROM x\n{line}")).contains(expected), "{line}");
    }
}

#[test]
fn run_flags_and_mounts() {
    let step = run(
        "RUN --mount=type=cache,target=/c,sharing=locked,id=i --mount=type=secret,id=s,env=S --network=none --security=insecure -- --x y",
    );
    assert_eq!(step.command, shell("--x y"));
    assert_eq!((step.network.as_deref(), step.security.as_deref()), (Some("none"), Some("insecure")));
    let mounts = step.mounts(&|text| Ok(text.to_owned())).unwrap();
    assert_eq!(
        (mounts[0].kind, mounts[0].sharing, mounts[0].read_only),
        (MountKind::Cache, Some(Sharing::Locked), false)
    );
    assert_eq!((mounts[1].kind, mounts[1].env.as_deref(), mounts[1].read_only), (MountKind::Secret, Some("S"), true));
    let mount = |text: &str| Mount::parse(text, &|text| Ok(text.replace("$t", "/t")));
    assert_eq!(mount("target=$t,rw").unwrap(), Mount { target: "/t".into(), ..Mount::default() });
    assert_eq!(mount("type=tmpfs,dst=/t,size=1.5m").unwrap().size, 3 << 19);
    assert_eq!(mount("type=bind,\"source=a,b\",target=/t,ro=false").unwrap().source, "a,b");
    for (text, expected) in [
        ("type=nfs", "unsupported mount type \"nfs\""),
        ("type=cahce", "(did you mean cache?)"),
        ("target", "invalid field 'target' must be a key=value pair"),
        ("trget=/x", "unexpected key 'trget' in 'trget=/x' (did you mean target?)"),
        ("required", "unexpected key 'required' for mount type 'bind'"),
        ("size=1,target=/x", "unexpected key 'size' for mount type 'bind'"),
        ("mode=755", "mode not allowed for \"bind\" type mounts"),
        ("type=cache,mode=9", "invalid value 9 for mode"),
        ("type=secret", "one of source, target required"),
        ("type=secret,id=a,source=b", "both source and id can't be set"),
        ("sharing=locked", "invalid cache sharing set for bind mount"),
        ("type=cache,sharing=x", "unsupported sharing value \"x\""),
        ("a=\"b", "failed to parse csv mounts"),
    ] {
        let message = mount(text).expect_err(text).message;
        assert!(message.contains(expected), "{text}: {message}");
    }
    assert!(error("FROM x\nRUN --mount=from=$x,target=/a b").contains("doesn't support variable expansion"));
    assert!(
        error("FROM x\nRUN --network=nnoe b").contains("network mode \"nnoe\" is not supported (did you mean none?)")
    );
}

#[test]
fn the_rest() {
    assert_eq!(one("EXPOSE 80 22/tcp $p"), Instruction::Expose(vec!["$p".into(), "22/tcp".into(), "80".into()]));
    assert_eq!(one("VOLUME /a  /b"), Instruction::Volume(vec!["/a".into(), "/b".into()]));
    assert_eq!(one("VOLUME [\"/a b\"]"), Instruction::Volume(vec!["/a b".into()]));
    assert_eq!(one("WORKDIR /a b"), Instruction::Workdir("/a b".into()));
    assert_eq!(one("user 1:2"), Instruction::User("1:2".into()));
    assert_eq!(one("STOPSIGNAL 9"), Instruction::StopSignal("9".into()));
    assert_eq!(one("MAINTAINER Jo Doe <x@y>"), Instruction::Maintainer("Jo Doe <x@y>".into()));
    for (line, expected) in [
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("VOLUME []", "VOLUME requires at least one argument"),
        ("VOLUME [\"\"]", "VOLUME specified can not be an empty string"),
        ("FROM a b", "FROM requires either one or three arguments"),
        ("FROM a AS 1b", "invalid name for build stage: \"1b\", name can't start with a number or contain symbols"),
    ] {
        assert_eq!(error(&format!("FROM x\n{line}")), format!("2: {expected}"), "{line}");
    }
}

#[test]
fn all_errors_at_once() {
    let found = error("RUN x\nFROM a b\nCOPPY a b\nFROM x\nENV y\n");
    let expected = "1: no build stage in current context; 2: FROM requires either one or three arguments; \
                    3: unknown instruction: COPPY (did you mean COPY?); 5: ENV must have two arguments";
    assert_eq!(found, expected);
    assert_eq!(error(""), "1: file with no instructions");
    assert_eq!(error("# only\n\n# comments\n"), "3: file with no instructions");
    assert!(error(&format!("FROM x\nRUN {}", "a".repeat(70_000))).contains("greater than max allowed size of 65535"));
}

proptest::proptest! {
    /// Whatever comes: instructions or errors, never a panic.
    #[test]
    fn never_panics(source in "(FROM x\n)?((RUN|COPY|ENV|ARG|ONBUILD|HEALTHCHECK|ADD|SHELL) [-a-z=<>\"'\\\\\\[\\],$ \n]{0,30}\n){0,4}") {
        let _ = parse(source.as_bytes());
    }
}
