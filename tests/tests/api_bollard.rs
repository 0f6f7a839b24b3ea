//! The client library `bollard`, as it comes, against `kiste serve`: the whole life of a container, an image and a volume.

use std::time::Duration;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::{ContainerCreateBody, ExecConfig, HostConfig, VolumeCreateRequest};
use bollard::query_parameters::*;
use futures_util::StreamExt as _;
use kiste_tests::{Api, Env};

fn client(api: &Api<'_>) -> Docker {
    let path = api.host();
    Docker::connect_with_unix(&path, 60, bollard::API_DEFAULT_VERSION).expect("the socket's address is right")
}

fn in_runtime<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(120), work).await.expect("it does not hang") })
}

fn body(line: &str, env: &Env) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some("busybox".to_owned()),
        cmd: Some(["sh", "-c", line].map(str::to_owned).to_vec()),
        host_config: Some(HostConfig { cgroup_parent: Some(env.cgroup().to_owned()), ..Default::default() }),
        ..Default::default()
    }
}

async fn create(docker: &Docker, name: &str, body: ContainerCreateBody) -> String {
    let options = CreateContainerOptionsBuilder::new().name(name).build();
    docker.create_container(Some(options), body).await.unwrap().id
}

#[test]
fn a_container_lives() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    in_runtime(async {
        let docker = client(&api).negotiate_version().await.unwrap();
        let id = create(&docker, "web", body("echo out; echo err >&2; sleep 1000", &env)).await;
        docker.start_container("web", None::<StartContainerOptions>).await.unwrap();
        let found = docker.inspect_container("web", None::<InspectContainerOptions>).await.unwrap();
        assert_eq!(found.id.as_ref(), Some(&id));
        assert_eq!(found.state.unwrap().running, Some(true));
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).follow(true).build();
        let mut logs = docker.logs("web", Some(options));
        let (mut out, mut err) = (String::new(), String::new());
        while out.len() + err.len() < 8 {
            match logs.next().await.unwrap().unwrap() {
                LogOutput::StdOut { message } => out += std::str::from_utf8(&message).unwrap(),
                LogOutput::StdErr { message } => err += std::str::from_utf8(&message).unwrap(),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((out.as_str(), err.as_str()), ("out\n", "err\n"));
        let stats = docker.stats("web", Some(StatsOptionsBuilder::new().stream(false).one_shot(true).build()));
        let sample = stats.into_future().await.0.unwrap().unwrap();
        assert!(sample.pids_stats.unwrap().current >= Some(1));
        let top = docker.top_processes("web", None::<TopOptions>).await.unwrap();
        assert!(top.processes.unwrap().iter().any(|row| row.last().is_some_and(|command| command == "sleep 1000")));
        let options = ListContainersOptionsBuilder::new().all(true).build();
        assert_eq!(docker.list_containers(Some(options)).await.unwrap().len(), 1);
        docker.pause_container("web").await.unwrap();
        docker.unpause_container("web").await.unwrap();
        docker.rename_container("web", RenameContainerOptionsBuilder::new().name("site").build()).await.unwrap();
        let mut waiting = docker.wait_container("site", None::<WaitContainerOptions>);
        docker.kill_container("site", None::<KillContainerOptions>).await.unwrap();
        match waiting.next().await.unwrap() {
            Err(Error::DockerContainerWaitError { code, .. }) => assert_eq!(code, 137),
            other => panic!("{other:?}"),
        }
        docker.remove_container("site", None::<RemoveContainerOptions>).await.unwrap();
        match docker.inspect_container("site", None::<InspectContainerOptions>).await {
            Err(Error::DockerResponseServerError { status_code, .. }) => assert_eq!(status_code, 404),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_program_is_executed_and_files_go_both_ways() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    in_runtime(async {
        let docker = client(&api);
        create(&docker, "web", body("sleep 1000", &env)).await;
        docker.start_container("web", None::<StartContainerOptions>).await.unwrap();
        let config = ExecConfig {
            cmd: Some(["sh", "-c", "cat; exit 7"].map(str::to_owned).to_vec()),
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            ..Default::default()
        };
        let exec = docker.create_exec("web", config).await.unwrap().id;
        let started = docker.start_exec(&exec, None::<StartExecOptions>).await.unwrap();
        let StartExecResults::Attached { mut output, mut input } = started else { panic!("it is attached") };
        use tokio::io::AsyncWriteExt as _;
        input.write_all(b"typed").await.unwrap();
        input.shutdown().await.unwrap();
        let mut all = Vec::new();
        while let Some(part) = output.next().await {
            all.extend_from_slice(&part.unwrap().into_bytes());
        }
        assert_eq!(all, b"typed");
        assert_eq!(docker.inspect_exec(&exec).await.unwrap().exit_code, Some(7));
        let options = DownloadFromContainerOptionsBuilder::new().path("/bin/busybox").build();
        let mut archive = Vec::new();
        let mut parts = docker.download_from_container("web", Some(options));
        while let Some(part) = parts.next().await {
            archive.extend_from_slice(&part.unwrap());
        }
        let options = UploadToContainerOptionsBuilder::new().path("/etc").build();
        docker.upload_to_container("web", Some(options), bollard::body_full(archive.into())).await.unwrap();
        assert_eq!(env.ok(&["exec", "web", "cmp", "/bin/busybox", "/etc/busybox"]), "");
        let options = RemoveContainerOptionsBuilder::new().force(true).build();
        docker.remove_container("web", Some(options)).await.unwrap();
    });
}

#[test]
fn images_volumes_and_the_system() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    in_runtime(async {
        let docker = client(&api);
        assert_eq!(docker.ping().await.unwrap(), "OK");
        assert_eq!(docker.version().await.unwrap().api_version.unwrap(), "1.51");
        assert_eq!(docker.info().await.unwrap().images, Some(1));
        let options = TagImageOptionsBuilder::new().repo("other").tag("1").build();
        docker.tag_image("busybox", Some(options)).await.unwrap();
        let image = docker.inspect_image("other:1").await.unwrap();
        assert!(image.repo_tags.unwrap().contains(&"other:1".to_owned()));
        assert_eq!(docker.list_images(None::<ListImagesOptions>).await.unwrap().len(), 1);
        let removed = docker.remove_image("other:1", None::<RemoveImageOptions>, None).await.unwrap();
        assert_eq!(removed[0].untagged.as_deref(), Some("other:1"));
        let request = VolumeCreateRequest { name: Some("data".to_owned()), ..Default::default() };
        assert_eq!(docker.create_volume(request).await.unwrap().driver, "local");
        let volumes = docker.list_volumes(None::<ListVolumesOptions>).await.unwrap().volumes.unwrap();
        assert_eq!(volumes.len(), 1);
        docker.df(None::<DataUsageOptions>).await.unwrap();
        docker.remove_volume("data", None::<RemoveVolumeOptions>).await.unwrap();
        let options = EventsOptionsBuilder::new().since("1").until("2100000000").build();
        let mut events = docker.events(Some(options));
        let first = events.next().await.unwrap().unwrap();
        assert_eq!(first.actor.unwrap().id.unwrap(), "busybox:latest");
    });
}
