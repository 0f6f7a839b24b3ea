//! The rules that look at instructions as they are written. Those about variables are in `variables`.

use std::collections::BTreeSet;

use regex::Regex;

use super::{Findings, Rule, Subject, rule};
use crate::dockerfile::{Instruction, Stage, Step};

const STAGE_NAME_CASING: Rule = rule("StageNameCasing", "Stage names should be lowercase");
const FROM_AS_CASING: Rule = rule("FromAsCasing", "The 'as' keyword should match the case of the 'from' keyword");
const NO_EMPTY_CONTINUATION: Rule =
    rule("NoEmptyContinuation", "Empty continuation lines will become errors in a future release");
const CONSISTENT_CASING: Rule = rule(
    "ConsistentInstructionCasing",
    "All commands within the Dockerfile should use the same casing (either upper or lower)",
);
const DUPLICATE_STAGE: Rule = rule("DuplicateStageName", "Stage names should be unique");
const RESERVED_STAGE: Rule = rule("ReservedStageName", "Reserved words should not be used as stage names");
const JSON_ARGS: Rule = rule(
    "JSONArgsRecommended",
    "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
);
const MAINTAINER: Rule = rule(
    "MaintainerDeprecated",
    "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
);
const RELATIVE_WORKDIR: Rule = rule(
    "WorkdirRelativePath",
    "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes",
);
const MULTIPLE: Rule = rule(
    "MultipleInstructionsDisallowed",
    "Multiple instructions of the same type should not be used in the same stage",
);
const LEGACY_FORMAT: Rule =
    rule("LegacyKeyValueFormat", "Legacy key/value format with whitespace separator should not be used");
const REDUNDANT_PLATFORM: Rule = rule(
    "RedundantTargetPlatform",
    "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
);
const CONSTANT_PLATFORM: Rule =
    rule("FromPlatformFlagConstDisallowed", "FROM --platform flag should not use a constant value");
const SECRETS: Rule = rule("SecretsUsedInArgOrEnv", "Sensitive data should not be used in the ARG or ENV commands");
const IGNORED_FILE: Rule = rule("CopyIgnoredFile", "Attempting to Copy file that is excluded by .dockerignore");
const PROTO_CASING: Rule = rule("ExposeProtoCasing", "Protocol in EXPOSE instruction should be lowercase");
const EXPOSE_FORMAT: Rule = rule(
    "ExposeInvalidFormat",
    "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release",
);
const DESCRIPTION: Rule = Rule {
    experimental: true,
    ..rule(
        "InvalidDefinitionDescription",
        "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.",
    )
};

/// Words in names that tell of a secret.
const SENSITIVE: &str =
    "(?i)(?:_|^)(?:apikey|auth|credential|credentials|key|password|pword|passwd|secret|token)(?:_|$)";

pub(super) fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let file = subject.file;
    for (_, span) in &file.warnings {
        findings.add(&NO_EMPTY_CONTINUATION, *span, "Empty continuation line");
    }
    casing(subject, findings);
    for step in &file.globals {
        written(step, findings);
    }
    let mut names = BTreeSet::new();
    for stage in &file.stages {
        from(stage, &mut names, findings);
        steps(subject, stage, findings);
    }
}

/// All instructions in capitals, or none.
fn casing(subject: &Subject<'_>, findings: &mut Findings) {
    let file = subject.file;
    let word = |code: &str| code.split_whitespace().next().unwrap_or_default().to_owned();
    let mut all: Vec<_> = file.globals.iter().map(|step| (step.name.clone(), step.span)).collect();
    for stage in &file.stages {
        all.push((word(&stage.code), stage.span));
        all.extend(stage.steps.iter().map(|step| (step.name.clone(), step.span)));
    }
    let lower = all.iter().filter(|(name, _)| *name == name.to_lowercase()).count();
    let upper = all.iter().filter(|(name, _)| *name == name.to_uppercase()).count();
    let (majority, is_lower) = if lower > upper { ("lowercase", true) } else { ("uppercase", false) };
    for (name, span) in all {
        let fits = if is_lower { name == name.to_lowercase() } else { name == name.to_uppercase() };
        if !fits {
            let text = format!("Command '{name}' should match the case of the command majority ({majority})");
            findings.add(&CONSISTENT_CASING, span, text);
        }
    }
}

fn from(stage: &Stage, names: &mut BTreeSet<String>, findings: &mut Findings) {
    let span = stage.span;
    let words: Vec<&str> = stage.code.split_whitespace().filter(|word| !word.starts_with("--")).collect();
    if let [from, _, keyword, name] = words.as_slice() {
        let lower = name.to_lowercase();
        if *name != lower {
            findings.add(&STAGE_NAME_CASING, span, format!("Stage name '{name}' should be lowercase"));
        }
        let is_lower = |word: &str| word == word.to_lowercase();
        if is_lower(keyword) != is_lower(from) {
            findings.add(&FROM_AS_CASING, span, format!("'{keyword}' and '{from}' keywords' casing do not match"));
        }
        if ["context", "scratch"].contains(&lower.as_str()) {
            let text = format!("Stage name should not use the same name as reserved stage {lower:?}");
            findings.add(&RESERVED_STAGE, span, text);
        }
        if !names.insert(lower.clone()) {
            findings.add(
                &DUPLICATE_STAGE,
                span,
                format!("Duplicate stage name {lower:?}, stage names should be unique"),
            );
        }
    }
    match stage.from.platform.as_deref() {
        Some(text @ ("$TARGETPLATFORM" | "${TARGETPLATFORM}")) => {
            let rest = "in FROM is redundant as this is the default behavior";
            findings.add(&REDUNDANT_PLATFORM, span, format!("Setting platform to predefined {text} {rest}"));
        }
        // A stage that is named for its platform is one of several that an argument chooses from.
        Some(text) if !text.contains('$') && !names_platform(stage, text) => {
            let text = format!("FROM --platform flag should not use constant value {text:?}");
            findings.add(&CONSTANT_PLATFORM, span, text);
        }
        _ => {}
    }
}

fn names_platform(stage: &Stage, platform: &str) -> bool {
    let name = stage.from.name.clone().unwrap_or_default();
    platform.split('/').any(|part| part != "linux" && name.contains(part))
}

/// The rules for one instruction alone.
fn written(step: &Step, findings: &mut Findings) {
    let span = step.span;
    match &step.instruction {
        Instruction::Env(pairs) | Instruction::Label(pairs) => {
            let name = step.name.to_uppercase();
            if pairs.iter().any(|pair| pair.spaced) {
                let text = format!("\"{name} key=value\" should be used instead of legacy \"{name} key value\" format");
                findings.add(&LEGACY_FORMAT, span, text);
            }
            if matches!(step.instruction, Instruction::Env(_)) {
                pairs.iter().for_each(|pair| secret(&name, &pair.key, step, findings));
            }
        }
        Instruction::Arg(arguments) => {
            arguments.iter().for_each(|argument| secret("ARG", &argument.key, step, findings));
            if let ([argument], Some(comment)) = (arguments.as_slice(), step.comments.last())
                && comment.split_whitespace().next() != Some(&argument.key)
            {
                let text = format!("Comment for ARG should follow the format: `# {} <description>`", argument.key);
                findings.add(&DESCRIPTION, span, text);
            }
        }
        Instruction::Maintainer(_) => {
            findings.add(&MAINTAINER, span, "Maintainer instruction is deprecated in favor of using label");
        }
        Instruction::Expose(ports) => ports.iter().for_each(|port| expose(port, step, findings)),
        _ => {}
    }
}

fn secret(instruction: &str, name: &str, step: &Step, findings: &mut Findings) {
    let matches = |pattern: &str| Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(name));
    if matches(SENSITIVE) && !matches("(?i)(?:_|^)(?:public)(?:_|$)") {
        let text = format!("Do not use ARG or ENV instructions for sensitive data ({instruction} {name:?})");
        findings.add(&SECRETS, step.span, text);
    }
}

fn expose(port: &str, step: &Step, findings: &mut Findings) {
    let (ports, protocol) = port.split_once('/').unwrap_or((port, ""));
    if protocol != protocol.to_lowercase() && !protocol.contains('$') {
        let text = format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
        findings.add(&PROTO_CASING, step.span, text);
    }
    if ports.contains(':') && !ports.contains('$') {
        let text = format!("EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'");
        findings.add(&EXPOSE_FORMAT, step.span, text);
    }
}

/// The rules for a stage as a whole.
fn steps(subject: &Subject<'_>, stage: &Stage, findings: &mut Findings) {
    let (mut shell, mut absolute) = (false, false);
    for (index, step) in stage.steps.iter().enumerate() {
        written(step, findings);
        match &step.instruction {
            Instruction::Shell(_) => shell = true,
            Instruction::Cmd(command) | Instruction::Entrypoint(command) => {
                let name = step.name.to_uppercase();
                if command.shell && !command.words.is_empty() && !shell {
                    let rest = "to prevent unintended behavior related to OS signals";
                    findings.add(&JSON_ARGS, step.span, format!("JSON arguments recommended for {name} {rest}"));
                }
                repeated(&name, step, &stage.steps[index + 1..], findings);
            }
            Instruction::Healthcheck(_) => repeated("HEALTHCHECK", step, &stage.steps[index + 1..], findings),
            Instruction::Workdir(path) => {
                if path.starts_with('/') || path.starts_with('$') {
                    absolute = true;
                } else if !absolute {
                    let text =
                        format!("Relative workdir {path:?} can have unexpected results if the base image changes");
                    findings.add(&RELATIVE_WORKDIR, step.span, text);
                }
            }
            Instruction::Copy(copy) if copy.from.is_empty() => {
                copy.sources.paths.iter().for_each(|path| ignored(subject, "Copy", path, step, findings));
            }
            Instruction::Add(add) => {
                add.sources.paths.iter().for_each(|path| ignored(subject, "Add", path, step, findings));
            }
            _ => {}
        }
    }
}

/// Another one follows, so this one does nothing.
fn repeated(name: &str, step: &Step, rest: &[Step], findings: &mut Findings) {
    if rest.iter().any(|other| other.name.eq_ignore_ascii_case(name)) {
        let why = "should not be used in the same stage because only the last one will be used";
        findings.add(&MULTIPLE, step.span, format!("Multiple {name} instructions {why}"));
    }
}

fn ignored(subject: &Subject<'_>, verb: &str, path: &str, step: &Step, findings: &mut Findings) {
    let clean = crate::ignore::clean(&format!("/{path}"));
    let clean = clean.trim_start_matches('/');
    let plain = !clean.is_empty() && !path.contains(['*', '?', '[', '$']) && !path.contains("://");
    if plain && subject.ignore.matches_deep(clean) && !subject.ignore.may_take_back_below(clean) {
        let text = format!("Attempting to {verb} file {path:?} that is excluded by .dockerignore");
        findings.add(&IGNORED_FILE, step.span, text);
    }
}
