# The habitual commands. `just` lists them.

default:
    @just --list

# What a change has to pass
ci:
    .ci/run

# Dependencies, public API, book: what needs tools that are not everywhere
tools:
    .ci/tools

# Makes the last commit the one that the public API is compared with
baseline:
    git rev-parse HEAD > .ci/baseline

# All the tests
test:
    cargo test --workspace

# The tests, each in a process of its own
nextest:
    cargo nextest run --workspace

# Format and lint
lint:
    cargo fmt --all
    cargo clippy --workspace --all-targets --all-features -- -D warnings

# Who imports whom: no circle, sys at the bottom
imports:
    .ci/imports

# Links between documents, and that every page is in the book
links:
    .ci/links

# The book, in target/book; needs `cargo install mdbook`
book:
    mdbook build docs

# The documentation, opened
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --open

# The main job, for real
stress:
    cargo run --release -- stress demo.db

# Figures, compared with the peers
bench:
    cargo run --release -p penholder-bench -- lock
    cargo run --release -p penholder-bench -- execute
    cargo run --release -p penholder-bench -- compare
    for workload in pages random hot service; do \
        cargo run --release -p penholder-bench -- compare --workload $workload --sync normal; done
    cargo run --release -p penholder-bench -- outsider
    cargo run --release -p penholder-bench -- readers
    cargo run --release -p penholder-bench -- handoff
    cargo run --release -p penholder-bench -- scale
    cargo build --release -p penholder-cli
    cargo run --release -p penholder-bench -- import
    cargo run --release --manifest-path bench-sqlx/Cargo.toml -- --threads 32
    cargo run --release --manifest-path bench-cluster/Cargo.toml

# Two thousand kills, and the storm
long:
    PENHOLDER_KILLS=2000 cargo test --release -p penholder --test crash
    .ci/storm

# Each fuzz target for an hour, or for so many seconds
fuzz seconds="3600" *targets="":
    .ci/fuzz {{ seconds }} {{ targets }}

# Lets every lock file follow the dependencies in the manifests
lock:
    for manifest in Cargo.toml fuzz/Cargo.toml bench-sqlx/Cargo.toml bench-cluster/Cargo.toml examples/*/Cargo.toml; do \
        cargo metadata --format-version 1 --manifest-path $manifest >/dev/null || exit 1; \
    done

# Man pages and completions, for packages
man:
    cargo build --release --locked
    target/release/penholder man target/man
    mkdir -p target/completions
    for shell in bash elvish fish powershell zsh; do \
        target/release/penholder completions $shell > target/completions/penholder.$shell || exit 1; \
    done
