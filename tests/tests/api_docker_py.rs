//! docker-py, as PyPI has it, against `kiste serve`: one program that goes through what its users do.

use std::process::Command;
use std::time::Duration;

use kiste_tests::{Api, Env, finish, fixtures};

/// What a user of docker-py would write; the first argument is the parent cgroup.
const PROGRAM: &str = r#"
import io, sys, tarfile, time, docker
from docker.errors import APIError, ContainerError, ImageNotFound, NotFound

parent = sys.argv[1]
client = docker.from_env()
assert client.ping() and client.version()['ApiVersion'] == '1.51'
image = client.images.get('busybox')
assert 'busybox:latest' in image.tags

def fails(kind, work):
    try:
        work()
    except kind as error:
        return str(error)
    raise AssertionError('it did not fail')

run = lambda *arguments, **more: client.containers.run('busybox', *arguments, cgroup_parent=parent, **more)
assert run(['echo', 'hello'], remove=True) == b'hello\n'
assert 'exit status 3' in fails(ContainerError, lambda: run(['sh', '-c', 'exit 3'], remove=True))
fails(NotFound, lambda: client.containers.get('nope'))
fails(ImageNotFound, lambda: client.images.get('nope'))

web = run(['sh', '-c', 'echo out; echo err >&2; sleep 1000'], name='web', detach=True, labels={'a': 'b'})
web.reload()
assert web.status == 'running' and web.labels['a'] == 'b'
assert [one.id for one in client.containers.list(filters={'label': 'a=b'})] == [web.id]
stream = web.logs(stream=True, follow=True)
assert {next(stream), next(stream)} == {b'out\n', b'err\n'}
assert web.exec_run(['sh', '-c', 'echo x; exit 4']) == (4, b'x\n')
code, both = web.exec_run(['sh', '-c', 'echo o; echo e >&2'], demux=True)
assert (code, both) == (0, (b'o\n', b'e\n'))

archive = io.BytesIO()
with tarfile.open(fileobj=archive, mode='w') as tar:
    entry = tarfile.TarInfo('file')
    entry.size = 4
    tar.addfile(entry, io.BytesIO(b'text'))
web.exec_run(['mkdir', '-p', '/tmp'])
assert web.put_archive('/tmp', archive.getvalue())
parts, stat = web.get_archive('/tmp/file')
assert stat['name'] == 'file' and stat['size'] == 4
with tarfile.open(fileobj=io.BytesIO(b''.join(parts))) as tar:
    assert tar.extractfile('file').read() == b'text'

assert web.stats(stream=False)['pids_stats']['current'] >= 1
assert web.top()['Titles'][0] in ('UID', 'PID')
assert {'Path': '/tmp/file', 'Kind': 1} in web.diff()
web.pause()
web.unpause()
web.rename('site')
made = web.commit('made', '1')
assert made.tags == ['made:1'] and made.attrs['Parent'] == image.id
web.stop(timeout=0)
assert web.wait()['StatusCode'] == 137
web.start()
web.kill()
web.remove(force=True)
client.images.remove('made:1')

volume = client.volumes.create('data', labels={'c': 'd'})
assert [one.name for one in client.volumes.list(filters={'label': 'c=d'})] == ['data']
volume.remove()
assert any(one.name == 'bridge' for one in client.networks.list())
events = list(client.events(since=1, until=int(time.time()) + 1, decode=True))
assert [event for event in events if event['Action'] == 'die' and event['from'] == 'busybox']
saved = b''.join(image.save(named=True))
client.images.remove('busybox', force=True)
assert client.images.load(saved)[0].tags == ['busybox:latest']
assert 'a=b' not in str(client.df()['Containers'])
assert '409' in fails(APIError, lambda: (run(['true'], name='twice', detach=True), run(['true'], name='twice', detach=True)))
client.containers.get('twice').remove(force=True)
print('done')
"#;

#[test]
fn what_its_users_do() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    let mut python = Command::new("python3");
    let library = fixtures::client("python/docker/__init__.py");
    python.args(["-c", PROGRAM, env.cgroup()]).env("PYTHONPATH", library.ancestors().nth(2).expect("its directory"));
    api.point(&mut python);
    let output = finish(&mut python, None, Duration::from_secs(120));
    assert_eq!(output.stdout, "done\n", "{output:#?}");
}
