# A formula for a tap. It builds from the checkout in which it lies (`brew install --HEAD`, with the
# checkout's address as `head` in the tap); there is no released archive to point at yet.
#
# No `service` block: `knhk-test-cache install` writes its own launchd agent, with the toolchain of
# the shell that ran it, which `brew services` could not know.
class KnhkTestCache < Formula
  desc "Keeps Rust test binaries compiled and test verdicts cached by content"
  license any_of: ["MIT", "Apache-2.0"]
  head Pathname.new(__dir__).parent.parent.to_s, using: :git

  depends_on "rust" => :build

  def install
    system "cargo", "install", *std_cargo_args
    generate_completions_from_executable(bin/"knhk-test-cache", "completions")
  end

  def caveats
    <<~EOS
      Start the service, now and with each session, from a shell in which cargo works:
        knhk-test-cache install
    EOS
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/knhk-test-cache --version")
  end
end
