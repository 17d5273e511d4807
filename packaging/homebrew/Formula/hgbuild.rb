class Hgbuild < Formula
  desc "C and C++ compiles on every idle machine nearby"
  homepage "https://github.com/hybrid-grid/hybrid-grid"
  url "https://github.com/hybrid-grid/hybrid-grid/releases/download/v0.1.0/hybrid-grid-0.1.0.tar.gz"
  # packaging/release writes that of the archive which it makes.
  sha256 "0000000000000000000000000000000000000000000000000000000000000000"
  license any_of: ["MIT", "Apache-2.0"]
  head "https://github.com/hybrid-grid/hybrid-grid.git", branch: "main"

  livecheck do
    url :stable
    strategy :github_latest
  end

  depends_on "rust" => :build

  def install
    ENV["HG_COMMIT"] = "v#{version}" if build.stable?
    system "cargo", "install", *std_cargo_args(path: "client")
    man1.install "packaging/man/hgbuild.1"
    generate_completions_from_executable(bin/"hgbuild", "completions", shells: [:bash, :zsh, :fish])
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/hgbuild --version")

    ENV["HOME"] = testpath
    (testpath/"answer.c").write "int answer(void) { return 42; }\n"
    system ENV.cc, "-c", "answer.c", "-o", "plain.o"
    2.times do
      system bin/"hgbuild", ENV.cc, "-c", "answer.c", "-o", "answer.o"
      assert_equal (testpath/"plain.o").binread, (testpath/"answer.o").binread
    end
    assert_match "hits", shell_output("#{bin}/hgbuild cache stats")
  end
end
