//! Tests with Debian's `coap-client` (package libcoap3-bin), if it is installed.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use super::super::*;
use super::{MemoryService, addr, body, memory_service};

/// The program, or `None` with a note when the package is not installed.
fn program() -> Option<&'static str> {
    let found = ["coap-client-notls", "coap-client"]
        .into_iter()
        .find(|name| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).any(|folder| folder.join(name).exists())
        });
    if found.is_none() {
        eprintln!("skipped: coap-client (libcoap3-bin) is not installed");
    }
    found
}

async fn server() -> (CoapEndpoint, Arc<MemoryService>) {
    let memory_service = memory_service();
    let config = CoapConfig {
        body_bytes_max: 1 << 20,
        ..CoapConfig::default()
    };
    (
        CoapEndpoint::bind(addr(0), config, memory_service.clone())
            .await
            .unwrap(),
        memory_service,
    )
}

async fn run(program: &'static str, endpoint: &CoapEndpoint, args: &[&str], path: &str) -> Output {
    let url = format!(
        "coap://127.0.0.1:{}{path}",
        endpoint.handle().local_addr().port()
    );
    let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).chain([url]).collect();
    let run = move || {
        let mut command = Command::new(program);
        command
            .args(args)
            .stdin(Stdio::null())
            .output()
            .expect("coap-client starts")
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn libcoap_discovers_reads_and_gets_errors() {
    let Some(program) = program() else { return };
    let (endpoint, memory_service) = server().await;
    memory_service.put("/3/0/3", b"2.0.0");
    let found = run(program, &endpoint, &["-B", "5"], "/.well-known/core").await;
    assert_eq!(
        String::from_utf8_lossy(&found.stdout).trim(),
        "</5/0>;ver=1.1,</ev>"
    );
    let version = run(program, &endpoint, &["-B", "5"], "/3/0/3").await;
    assert_eq!(String::from_utf8_lossy(&version.stdout).trim(), "2.0.0");
    let missing = run(program, &endpoint, &["-B", "5"], "/9/9").await;
    let output = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(output.contains("4.04 nothing there"), "{output}");
    let non = run(program, &endpoint, &["-B", "5", "-N"], "/3/0/3").await;
    assert_eq!(String::from_utf8_lossy(&non.stdout).trim(), "2.0.0");
    endpoint.close().await;
}

#[tokio::test]
async fn libcoap_writes_and_reads_back_in_blocks() {
    let Some(program) = program() else { return };
    let (endpoint, memory_service) = server().await;
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    let image = body(20_001);
    std::fs::write(&input, &image).unwrap();
    for size in ["1024", "64"] {
        let args = [
            "-B",
            "20",
            "-m",
            "put",
            "-t",
            "42",
            "-b",
            size,
            "-f",
            text(&input),
        ];
        let put = run(program, &endpoint, &args, "/5/0/0").await;
        assert!(put.status.success(), "{put:?}");
        assert_eq!(
            memory_service.get("/5/0/0").as_ref(),
            Some(&image),
            "blocks of {size}"
        );
        let args = ["-B", "20", "-b", size, "-o", text(&output)];
        run(program, &endpoint, &args, "/5/0/0").await;
        assert_eq!(std::fs::read(&output).unwrap(), image, "blocks of {size}");
    }
    endpoint.close().await;
}

#[tokio::test]
async fn libcoap_over_a_lossy_link_is_served() {
    let Some(program) = program() else { return };
    let (endpoint, memory_service) = server().await;
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in");
    let image = body(3_000);
    std::fs::write(&input, &image).unwrap();
    // libcoap drops its second and fourth datagram itself and must repeat them.
    let args = [
        "-B",
        "30",
        "-l",
        "2,4",
        "-m",
        "put",
        "-b",
        "512",
        "-f",
        text(&input),
    ];
    run(program, &endpoint, &args, "/5/0/0").await;
    assert_eq!(memory_service.get("/5/0/0").as_ref(), Some(&image));
    endpoint.close().await;
}
