//! The rules about variables: used in FROM or elsewhere without being declared, or with a default that leads nowhere.

use super::{Findings, Rule, Subject, rule};
use crate::dockerfile::{Instruction, Stage, Step};
use crate::error::suggestion;
use crate::scope::{Platform, Scope};
use crate::words::{Style, Variables, expand};

const UNDEFINED_IN_FROM: Rule = rule("UndefinedArgInFrom", "FROM command must use declared ARGs");
const UNDEFINED: Rule = rule("UndefinedVar", "Variables should be defined before their use");
const INVALID_DEFAULT: Rule =
    rule("InvalidDefaultArgInFrom", "Default value for global ARG results in an empty or invalid base image name");

/// Known in every stage without being declared.
const PROXIES: &[&str] = &["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// Names that a stage knows; none: nobody knows what its base has.
type Known = Option<Vec<String>>;

pub(super) fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let mut predefined = Scope::default();
    let platforms = [Platform::host().arguments("BUILD"), Platform::host().arguments("TARGET")];
    platforms.concat().iter().for_each(|(name, value)| predefined.set(name, value));
    predefined.set("TARGETSTAGE", "default");
    let (mut defaults, mut given) = (predefined.clone(), predefined.clone());
    let mut declared: Vec<String> = Vec::new();
    for step in &subject.file.globals {
        let Instruction::Arg(arguments) = &step.instruction else { continue };
        for argument in arguments {
            declared.push(argument.key.clone());
            let escape = subject.file.escape;
            if let Some(default) = argument.value.as_ref().and_then(|text| defaults.word(text, escape).ok()) {
                defaults.set(&argument.key, &default);
                given.set(&argument.key, &default);
            }
            if let Some(value) = subject.request.arguments.get(&argument.key) {
                given.set(&argument.key, value);
            }
        }
    }
    let mut stages: Vec<(Option<String>, Known)> = Vec::new();
    for stage in &subject.file.stages {
        from(subject, stage, &declared, &defaults, &predefined, findings);
        let base = given.word(&stage.from.base, subject.file.escape).unwrap_or_default();
        let inherited = stages.iter().rev().find(|(name, _)| name.as_deref() == Some(&base.to_lowercase()));
        let known = match inherited {
            Some((_, known)) => known.clone(),
            None if base == "scratch" => Some(vec!["PATH".to_owned()]),
            None => (subject.environment)(&base).map(|lines| lines.iter().map(|line| name_of(line)).collect()),
        };
        let known = inside(subject, stage, known, findings);
        stages.push((stage.from.name.clone(), known));
    }
}

fn name_of(line: &str) -> String {
    line.split('=').next().unwrap_or_default().to_owned()
}

fn from(
    subject: &Subject<'_>,
    stage: &Stage,
    declared: &[String],
    defaults: &Scope,
    predefined: &Scope,
    findings: &mut Findings,
) {
    let style = Style::new(subject.file.escape);
    let texts = [Some(&stage.from.base), stage.from.platform.as_ref()];
    for text in texts.into_iter().flatten() {
        let Ok(expanded) = expand(text, defaults, style) else { continue };
        for name in expanded.missing.iter().filter(|name| !declared.contains(name)) {
            let known: Vec<&str> = declared.iter().map(String::as_str).collect();
            let hint = suggestion(name, &known);
            if predefined.get(name).is_none() {
                let text = format!("FROM argument '{name}' is not declared{hint}");
                findings.add(&UNDEFINED_IN_FROM, stage.span, text);
            }
        }
    }
    let Ok(base) = expand(&stage.from.base, defaults, style) else { return };
    let undeclared = base.missing.iter().any(|name| !declared.contains(name));
    let valid = base.text == "scratch" || base.text.parse::<image::Reference>().is_ok();
    if stage.from.base.contains('$') && !undeclared && !valid {
        let text = format!("Default value for ARG {} results in empty or invalid base image name", stage.from.base);
        findings.add(&INVALID_DEFAULT, stage.span, text);
    }
}

/// Looks at a stage's words; what the stage knows in the end goes on to those that build on it, arguments excepted.
fn inside(subject: &Subject<'_>, stage: &Stage, known: Known, findings: &mut Findings) -> Known {
    let mut environment = known?;
    let mut arguments: Vec<String> = Vec::new();
    for step in &stage.steps {
        for word in words(step) {
            let all = [environment.clone(), arguments.clone()].concat();
            let style = Style::new(subject.file.escape);
            let pairs: Vec<(String, String)> = all.iter().map(|name| (name.clone(), "x".to_owned())).collect();
            let Ok(expanded) = expand(word, &pairs.as_slice(), style) else { continue };
            for name in expanded.missing.iter().filter(|name| !PROXIES.contains(&name.to_uppercase().as_str())) {
                // `${name:-default}` and its like say what they do without it.
                if word.contains(&format!("${{{name}:"))
                    || word.contains(&format!("${{{name}-"))
                    || word.contains(&format!("${{{name}+"))
                {
                    continue;
                }
                let known: Vec<&str> = all.iter().map(String::as_str).collect();
                let hint = suggestion(name, &known).replace("did you mean ", "did you mean $");
                findings.add(&UNDEFINED, step.span, format!("Usage of undefined variable '${name}'{hint}"));
            }
        }
        match &step.instruction {
            Instruction::Env(pairs) => environment.extend(pairs.iter().map(|pair| pair.key.clone())),
            Instruction::Arg(list) => arguments.extend(list.iter().map(|argument| argument.key.clone())),
            _ => {}
        }
    }
    Some(environment)
}

/// The words of an instruction that are expanded.
fn words(step: &Step) -> Vec<&String> {
    match &step.instruction {
        Instruction::Add(add) => add.sources.paths.iter().chain([&add.sources.destination]).collect(),
        Instruction::Copy(copy) => copy.sources.paths.iter().chain([&copy.sources.destination]).collect(),
        Instruction::Env(pairs) | Instruction::Label(pairs) => {
            pairs.iter().flat_map(|pair| [&pair.key, &pair.value]).collect()
        }
        Instruction::Arg(arguments) => arguments.iter().filter_map(|argument| argument.value.as_ref()).collect(),
        Instruction::Expose(list) | Instruction::Volume(list) => list.iter().collect(),
        Instruction::StopSignal(word) | Instruction::User(word) | Instruction::Workdir(word) => vec![word],
        _ => Vec::new(),
    }
}
