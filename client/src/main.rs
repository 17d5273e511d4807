//! The program `hgbuild`.

fn main() {
    hgbuild::main(std::env::args_os())
}
