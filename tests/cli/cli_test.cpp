#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>

#include "base/file.h"
#include "cli/progress_line.h"
#include "cli/routing_log.h"
#include "cli/styled_text.h"
#include "cli/table.h"
#include "tests/support/check_error.h"
#include "tests/support/temp_dir.h"

using namespace sluice;
using namespace sluice::cli;
using base::ErrorKind;

namespace {

/// While it lives, stderr is a file.
class StderrToFile {
 public:
  explicit StderrToFile(const std::filesystem::path& path) : before_(::dup(STDERR_FILENO)) {
    const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ::dup2(file, STDERR_FILENO);
    ::close(file);
  }
  ~StderrToFile() {
    ::dup2(before_, STDERR_FILENO);
    ::close(before_);
  }
  StderrToFile(const StderrToFile&) = delete;
  StderrToFile& operator=(const StderrToFile&) = delete;

 private:
  int before_;
};

}  // namespace

TEST_CASE("a table aligns its columns and counts characters, not bytes") {
  Table table({1});
  table.add_row({"a", "1", "end"});
  table.add_row({"\xC3\xA9\xC3\xA9", "200", "x"});  // two characters, four bytes
  CHECK(table.text() == "a     1  end\n\xC3\xA9\xC3\xA9  200  x\n");
}

TEST_CASE("a table gives wide characters two columns and combining marks none") {
  Table table;
  table.add_row({"\u6A21\u578B", "x"});    // two ideographs: four columns
  table.add_row({"e\u0301e\u0301", "x"});  // two letters, each with an accent of its own
  table.add_row({"abcd", "x"});
  CHECK(table.text() == "\u6A21\u578B  x\ne\u0301e\u0301    x\nabcd  x\n");
}

TEST_CASE("a table replaces control characters of its cells, so that no cell begins a line") {
  Table table;
  table.add_row({"a\nforged  line", "\x1b[31m"});
  CHECK(table.text() == "a\uFFFDforged  line  \uFFFD[31m\n");
}

TEST_CASE("a styled text has the sequences of its styles and no others") {
  StyledText line("sluice: ", kBad);
  line.add("a\x1b]0;title\x07\nb\xC2\x9B", kPlain).add("12", {.foreground = 15, .background = 17});
  CHECK(line.render(false) == "sluice: a\uFFFD]0;title\uFFFD\uFFFDb\uFFFD12");
  CHECK(line.render(true) ==
        "\x1b[31msluice: \x1b[0ma\uFFFD]0;title\uFFFD\uFFFDb\uFFFD\x1b[48;5;17;38;5;15m12\x1b[0m");
  CHECK(to_printable_lines("a\tb\nc\rd\xFF") == "a\tb\nc\uFFFDd\uFFFD");
}

TEST_CASE("numbers for people have commas in threes") {
  CHECK(with_commas(0) == "0");
  CHECK(with_commas(999) == "999");
  CHECK(with_commas(1000) == "1,000");
  CHECK(with_commas(46702792704) == "46,702,792,704");
}

TEST_CASE("the progress line shows share, amount, rate, time left and peers") {
  const ProgressState state{"fetching", 256u << 20, 1024u << 20, 64.0 * (1 << 20), 3, true};
  CHECK(format_progress(state, 200) ==
        "fetching  25 %  [######                  ]  256 MiB of 1.0 GiB  64.0 MiB/s  0:12 left  3 peers");
}

TEST_CASE("on a narrow terminal the bar shrinks, then the total, peers, rate and amount go") {
  const ProgressState state{"fetching", 256u << 20, 1024u << 20, 64.0 * (1 << 20), 3, true};
  CHECK(format_progress(state, 80) ==
        "fetching  25 %  [##       ]  256 MiB of 1.0 GiB  64.0 MiB/s  0:12 left  3 peers");
  CHECK(format_progress(state, 80).size() == 79);
  CHECK(format_progress(state, 70) ==
        "fetching  25 %  [##        ]  256 MiB  64.0 MiB/s  0:12 left  3 peers");
  CHECK(format_progress(state, 60) == "fetching  25 %  [##       ]  256 MiB  64.0 MiB/s  0:12 left");
  CHECK(format_progress(state, 40) == "fetching  25 %  [##        ]  0:12 left");
  CHECK(format_progress(state, 20).size() < 20);
  CHECK(format_progress(state, 0) == "fetching  25 %  256 MiB of 1.0 GiB  64.0 MiB/s  0:12 left  3 peers");
}

TEST_CASE("a line that stands still says why, on a narrow terminal, too") {
  const ProgressState state{"fetching", 0, 1024u << 20, 0, 0, true, "no peers"};
  CHECK(format_progress(state, 60) == "fetching  0 %  [       ]  0 B of 1.0 GiB  waiting: no peers");
}

TEST_CASE("the remaining time is shown when the rate has settled") {
  using namespace std::chrono_literals;
  RateMeter meter;
  auto now = RateMeter::Clock::time_point{};
  meter.reset(500, now);
  // Twenty seconds go by until peers are found; they are no part of the rate.
  for (int i = 0; i < 20; ++i) CHECK(meter.update(500, now += 1s) == 0);
  CHECK_FALSE(meter.settled());
  CHECK(meter.update(600, now += 1s) == 100);
  CHECK_FALSE(meter.settled());
  CHECK(meter.update(700, now += 1s) == doctest::Approx(100));
  CHECK_FALSE(meter.settled());
  CHECK(meter.update(900, now += 2s) == doctest::Approx(100));
  CHECK(meter.settled());
  const ProgressState state{
      .phase = "fetching", .done = 1, .total = 2, .rate_per_s = 1, .rate_settled = false};
  CHECK(format_progress(state, 0) == "fetching  50 %  1 B of 2 B  1 B/s");
}

TEST_CASE("a plain line a minute comes where stderr is no terminal") {
  using namespace std::chrono_literals;
  const tests::TempDir dir;
  auto now = RateMeter::Clock::time_point{};
  {
    const StderrToFile file(dir / "stderr");
    Console console;
    ProgressLine line(console, [&] { return now; });
    line.begin("verifying", 1000);
    for (int second = 1; second <= 150; ++second) {
      now += 1s;
      line.advance(5);
      if (second == 100) line.begin("converting", 1000);  // another phase does not put the line off
    }
    console.configure(false, true);
    now += 1h;
    line.advance(5);  // nothing with --quiet
  }
  CHECK(base::read_text_file(dir / "stderr") ==
        "verifying  30 %  300 B of 1000 B  5 B/s  2:20 left\n"
        "converting  10 %  100 B of 1000 B  5 B/s  3:00 left\n");
}

TEST_CASE("progress is 100 % only when all is done, and never more") {
  const ProgressState nearly{"verifying", 999, 1000, 0, std::nullopt, true};
  CHECK(format_progress(nearly, 200).find(" 99 %") != std::string::npos);
  const ProgressState beyond{"verifying", 1500, 1000, 10, std::nullopt, true};
  CHECK(format_progress(beyond, 200).find(" 100 %") != std::string::npos);
}

TEST_CASE("a rate meter follows a steady rate and forgets an old one") {
  using namespace std::chrono_literals;
  RateMeter meter;
  auto now = RateMeter::Clock::time_point{};
  meter.reset(0, now);
  std::uint64_t count = 0;
  double rate = 0;
  for (int i = 0; i < 50; ++i) rate = meter.update(count += 100, now += 100ms);
  CHECK(rate == doctest::Approx(1000));
  for (int i = 0; i < 300; ++i) rate = meter.update(count += 10, now += 100ms);
  CHECK(rate == doctest::Approx(100).epsilon(0.05));
}

TEST_CASE("routing counts are shares of the tokens a layer") {
  RoutingCounts counts(2, 4);
  const std::vector<float> weights = {0.6F, 0.4F};
  const std::vector<std::uint32_t> first = {0, 1};
  const std::vector<std::uint32_t> second = {1, 3};
  counts.add({0, 5, 0, first, weights, {}});
  counts.add({1, 6, 0, second, weights, {}});
  CHECK(counts.share(0, 0) == 0.5);
  CHECK(counts.share(0, 1) == 1.0);
  CHECK(counts.share(0, 2) == 0.0);
  CHECK(counts.share(1, 0) == 0.0);  // a layer that saw no token
  const std::vector<StyledText> table = routing_table(counts);
  CHECK(table.size() == 5);
  CHECK(table[3].render(false) == "   0  50.0 100.0   0.0  50.0      1        2");
  CHECK(table[3].render(true).starts_with("   0 \x1b[48;5;91;38;5;15m 50.0 \x1b[0m"));
}

TEST_CASE("a trace file has one JSON object a line") {
  const tests::TempDir dir;
  const std::vector<float> weights = {0.75F, 0.25F};
  const std::vector<std::uint32_t> experts = {3, 1};
  TraceFile trace(dir / "trace");
  trace.add({7, 42, 1, experts, weights, 0.5F});
  trace.add({7, 42, 2, experts, weights, {}});
  trace.finish();
  CHECK(base::read_text_file(dir / "trace") ==
        "{\"position\":7,\"token\":42,\"layer\":1,\"experts\":[3,1],\"weights\":[0.75,0.25],\"margin\":0.5}\n"
        "{\"position\":7,\"token\":42,\"layer\":2,\"experts\":[3,1],\"weights\":[0.75,0.25],\"margin\":null}"
        "\n");
}
