class HgWorkerLite < Formula
  desc "Worker of a grid of compiling machines"
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
    system "cargo", "install", *std_cargo_args(path: "worker-lite"), "--profile", "small"
    man1.install "packaging/man/hg-worker-lite.1"
    bash_completion.install "packaging/completions/hg-worker-lite.bash" => "hg-worker-lite"
    zsh_completion.install "packaging/completions/_hg-worker-lite"
    fish_completion.install "packaging/completions/hg-worker-lite.fish"
  end

  service do
    run [opt_bin/"hg-worker-lite", "serve"]
    keep_alive true
    # The compilers of Homebrew, then those of Xcode's command line tools.
    environment_variables PATH: std_service_path_env
    log_path var/"log/hg-worker-lite.log"
    error_log_path var/"log/hg-worker-lite.log"
  end

  def caveats
    <<~EOS
      First join a grid, with a token from 'hg-coord token --role worker':
        hg-worker-lite join --coordinator HOST:9000
        brew services start hg-worker-lite
    EOS
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/hg-worker-lite --version")

    ENV["HOME"] = testpath
    said = shell_output("#{bin}/hg-worker-lite serve --coordinator nonsense 2>&1", 2)
    assert_match "not HOST:PORT", said
  end
end
