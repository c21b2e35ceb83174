//! Finds the examples of this package as programs.
//!
//! nextest and a plain `cargo test` build them beside the tests; `cargo test --test NAME` does not,
//! and would leave old ones there. So where cargo runs the test, it is asked to bring them up to
//! date, once per process.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::Once,
};

/// The path of the example of this name.
pub(crate) fn example(name: &str) -> PathBuf {
    static BUILD: Once = Once::new();
    // target/PROFILE/deps/TEST
    let test = env::current_exe().expect("this test's path");
    let out = test.parent().and_then(Path::parent).expect("the profile's directory");
    if env::var_os("NEXTEST").is_none() {
        BUILD.call_once(|| build(out));
    }
    let path = out.join("examples").join(name);
    assert!(path.exists(), "{} is not built: `cargo build --examples` does", path.display());
    path
}

fn build(out: &Path) {
    let Some(cargo) = env::var_os("CARGO") else { return };
    let profile = match out.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--examples", "--profile", profile]);
    command.arg("--manifest-path").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
    command.arg("--target-dir").arg(out.parent().expect("the target directory"));
    assert!(command.status().expect("cargo runs").success(), "the examples do not build");
}
