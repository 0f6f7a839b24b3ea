//! Merging the image's configuration into the request's, by Docker's rules (`runconfig.Merge`): what the user gave
//! wins, lists of names are united, and an entry point of the user's drops the image's command.

use serde::Deserialize;

use crate::model::{Config, Empty, Healthcheck, Map, Set};
use crate::{Context as _, Result};

/// The `config` of an image configuration, with Docker's additions to the OCI image specification.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ImageConfig {
    user: Option<String>,
    exposed_ports: Option<Map<serde::de::IgnoredAny>>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    volumes: Option<Map<serde::de::IgnoredAny>>,
    working_dir: Option<String>,
    labels: Option<Map<String>>,
    stop_signal: Option<String>,
    healthcheck: Option<Healthcheck>,
    shell: Option<Vec<String>>,
}

/// Reads the part of an image configuration that containers are made from.
pub(crate) fn image_config(json: &[u8]) -> Result<ImageConfig> {
    #[derive(Deserialize)]
    struct Document {
        config: Option<ImageConfig>,
    }
    let document: Document = serde_json::from_slice(json).step(|| "read the image's configuration".to_owned())?;
    Ok(document.config.unwrap_or_default())
}

/// The user's configuration completed with the image's.
pub(crate) fn merge(user: &Config, image: ImageConfig) -> Config {
    let mut merged = user.clone();
    fill(&mut merged.user, image.user);
    fill(&mut merged.working_dir, image.working_dir);
    fill(&mut merged.stop_signal, image.stop_signal);
    merged.exposed_ports = unite(merged.exposed_ports, image.exposed_ports);
    merged.volumes = unite(merged.volumes, image.volumes);
    merged.env = merge_env(image.env.unwrap_or_default(), &user.env);
    for (key, value) in image.labels.unwrap_or_default() {
        merged.labels.entry(key).or_insert(value);
    }
    merge_command(&mut merged, image.entrypoint, image.cmd);
    merged.shell = merged.shell.filter(|shell| !shell.is_empty()).or(image.shell);
    merged.healthcheck = merge_health(merged.healthcheck, image.healthcheck);
    merged
}

fn fill(value: &mut String, image: Option<String>) {
    if value.is_empty() {
        *value = image.unwrap_or_default();
    }
}

fn unite(user: Option<Set>, image: Option<Map<serde::de::IgnoredAny>>) -> Option<Set> {
    let mut all = user.unwrap_or_default();
    all.extend(image.into_iter().flatten().map(|(key, _)| (key, Empty {})));
    (!all.is_empty()).then_some(all)
}

/// An entry point of the user's own (also an empty one) makes the image's command meaningless.
fn merge_command(merged: &mut Config, entrypoint: Option<Vec<String>>, cmd: Option<Vec<String>>) {
    if merged.entrypoint.is_none() {
        if merged.cmd.as_ref().is_none_or(Vec::is_empty) {
            merged.cmd = cmd;
        }
        merged.entrypoint = entrypoint;
    }
    if merged.entrypoint.as_deref() == Some(&[String::new()]) || merged.entrypoint.as_ref().is_some_and(Vec::is_empty) {
        merged.entrypoint = None;
    }
}

/// The user's environment, then what the image adds (Docker's order); a user's entry without `=` takes the image's
/// variable away.
fn merge_env(image: Vec<String>, user: &[String]) -> Vec<String> {
    let name = |entry: &String| entry.split('=').next().unwrap_or_default().to_owned();
    let taken: Vec<String> = user.iter().map(name).collect();
    // A name alone is kept, as with Docker: it takes the variable away when the process is made.
    let mut own: Vec<String> = Vec::new();
    for entry in user {
        match own.iter_mut().find(|old| name(old) == name(entry)) {
            Some(old) => old.clone_from(entry),
            None => own.push(entry.clone()),
        }
    }
    own.into_iter().chain(image.into_iter().filter(|entry| !taken.contains(&name(entry)))).collect()
}

/// An environment with `entries` put in: a name that is there already keeps its place, an entry without `=` takes it
/// away.
pub(crate) fn overlay_env(mut env: Vec<String>, entries: &[String]) -> Vec<String> {
    for entry in entries {
        let (name, value) = entry.split_once('=').map_or((entry.as_str(), None), |(name, value)| (name, Some(value)));
        let place = env.iter().position(|old| old.split('=').next() == Some(name));
        match (place, value) {
            (Some(place), Some(_)) => env[place] = entry.clone(),
            (Some(place), None) => drop(env.remove(place)),
            (None, Some(_)) => env.push(entry.clone()),
            (None, None) => {}
        }
    }
    env
}

fn merge_health(user: Option<Healthcheck>, image: Option<Healthcheck>) -> Option<Healthcheck> {
    let (Some(mut check), Some(image)) = (user.clone(), image.clone()) else { return user.or(image) };
    if check.test.is_empty() {
        check.test = image.test;
    }
    let pick = |own: &mut i64, image: i64| {
        if *own == 0 {
            *own = image;
        }
    };
    pick(&mut check.interval, image.interval);
    pick(&mut check.timeout, image.timeout);
    pick(&mut check.start_period, image.start_period);
    pick(&mut check.start_interval, image.start_interval);
    pick(&mut check.retries, image.retries);
    Some(check)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn image() -> ImageConfig {
        let json = br#"{"config":{"User":"app","Env":["PATH=/bin","A=1"],"Entrypoint":["/entry"],"Cmd":["serve"],
            "ExposedPorts":{"80/tcp":{}},"Volumes":{"/data":{}},"Labels":{"a":"image","b":"image"},
            "Healthcheck":{"Test":["CMD","true"],"Retries":7}}}"#;
        image_config(json).unwrap()
    }

    #[test]
    fn image_fills_what_the_user_left_open() {
        let merged = merge(&Config::default(), image());
        assert_eq!(merged.user, "app");
        assert_eq!(merged.entrypoint, Some(list(&["/entry"])));
        assert_eq!(merged.cmd, Some(list(&["serve"])));
        assert_eq!(merged.env, list(&["PATH=/bin", "A=1"]));
        assert!(merged.volumes.unwrap().contains_key("/data"));
        assert!(merged.exposed_ports.unwrap().contains_key("80/tcp"));
    }

    #[test]
    fn command_replaces_command_and_entry_point_drops_it() {
        let with_cmd = Config { cmd: Some(list(&["x"])), ..Config::default() };
        let merged = merge(&with_cmd, image());
        assert_eq!((merged.entrypoint, merged.cmd), (Some(list(&["/entry"])), Some(list(&["x"]))));
        let with_entry = Config { entrypoint: Some(list(&["/mine"])), ..Config::default() };
        let merged = merge(&with_entry, image());
        assert_eq!((merged.entrypoint, merged.cmd), (Some(list(&["/mine"])), None));
        let cleared = Config { entrypoint: Some(list(&[""])), cmd: Some(list(&["sh"])), ..Config::default() };
        let merged = merge(&cleared, image());
        assert_eq!((merged.entrypoint, merged.cmd), (None, Some(list(&["sh"]))));
    }

    #[test]
    fn environment_is_overlaid_and_a_bare_name_is_kept() {
        let user = Config { env: list(&["A=2", "B=3", "PATH"]), ..Config::default() };
        assert_eq!(merge(&user, image()).env, list(&["A=2", "B=3", "PATH"]));
        let user = Config { env: list(&["B=3", "B=4"]), ..Config::default() };
        assert_eq!(merge(&user, image()).env, list(&["B=4", "PATH=/bin", "A=1"]));
    }

    #[test]
    fn labels_of_the_user_win_and_health_is_merged_by_field() {
        let mut user = Config::default();
        user.labels.insert("a".to_owned(), "user".to_owned());
        user.healthcheck = Some(Healthcheck { retries: 2, ..Healthcheck::default() });
        let merged = merge(&user, image());
        assert_eq!(merged.labels["a"], "user");
        assert_eq!(merged.labels["b"], "image");
        let check = merged.healthcheck.unwrap();
        assert_eq!((check.retries, check.test), (2, list(&["CMD", "true"])));
    }

    #[test]
    fn null_fields_of_old_images_are_empty_ones() {
        let config = image_config(br#"{"config":{"Env":null,"Labels":null,"Volumes":null,"Cmd":null}}"#).unwrap();
        assert_eq!(merge(&Config::default(), config), Config::default());
    }
}
