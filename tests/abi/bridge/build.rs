//! Compiles the C++ half, against the headers as they are in the repository.

fn main() {
    cxx_build::bridge("src/lib.rs")
        .file("src/driver.cc")
        .include("src")
        .include("../../../include")
        .define("GRAFT_STATIC", None)
        .std("c++17")
        .flag_if_supported("-Wall")
        .flag_if_supported("-Wextra")
        .compile("graft-bridge");
    for file in [
        "src/driver.cc",
        "src/driver.h",
        "../../../include/graft.h",
        "../../../include/graft.hpp",
    ] {
        println!("cargo:rerun-if-changed={file}");
    }
}
