class HgCoord < Formula
  desc "Coordinator of a grid of compiling machines"
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
    system "cargo", "install", *std_cargo_args(path: "coord")
    man1.install "packaging/man/hg-coord.1"
    bash_completion.install "packaging/completions/hg-coord.bash" => "hg-coord"
    zsh_completion.install "packaging/completions/_hg-coord"
    fish_completion.install "packaging/completions/hg-coord.fish"
  end

  service do
    run [opt_bin/"hg-coord", "serve"]
    keep_alive true
    log_path var/"log/hg-coord.log"
    error_log_path var/"log/hg-coord.log"
  end

  def caveats
    <<~EOS
      The service keeps its secrets in ~/.hybridgrid/coord. To let a developer or a worker in:
        hg-coord token --role client --name alice
        hg-coord token --role worker --name pi3
    EOS
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/hg-coord --version")

    ENV["HOME"] = testpath
    state = testpath/"state"
    pid = spawn bin/"hg-coord", "serve", "--state", state, "--listen", "127.0.0.1:0", "--http", "off"
    begin
      20.times do
        break if (state/"endpoints.json").exist?

        sleep 0.5
      end
      assert_match "grid", (state/"endpoints.json").read
      assert_match "hg", shell_output("#{bin}/hg-coord token --role client --name test --state #{state}")
    ensure
      Process.kill "TERM", pid
      Process.wait pid
    end
  end
end
