#include "cli/options.h"

#include <doctest/doctest.h>

#include <array>

#include "base/spelling.h"
#include "cli/help_page.h"
#include "cli/network_options.h"
#include "tests/support/check_error.h"

using namespace sluice;
using namespace sluice::cli;
using base::ErrorKind;

namespace {

struct Values {
  std::string source;
  std::optional<std::string> prompt;
  std::string file;
  std::string type = "q4";
  std::vector<std::string> peers;
  std::uint64_t memory_bytes = 0;
  double temperature = 0.7;
  std::int64_t tokens = 128;
  std::optional<std::uint64_t> seed;
  std::optional<double> timeout_s;
  double seed_time_min = 0;
  bool list = false;
  bool overwrite = false;
};

Values parse(Console& console, std::vector<std::string> arguments) {
  Values values;
  Options options("test", "A test.", "sluice test");
  options.add_argument("SOURCE", values.source, "Source");
  options.add_text("-p,--prompt TEXT", values.prompt, "Prompt");
  options.add_text("-f,--file FILE", values.file, "File");
  options.exclude("--file", "--prompt");
  options.add_choice("--type TYPE", values.type, {"q4", "q8"}, "Type");
  options.add_list("--peer HOST:PORT", values.peers, "Peer");
  options.add_size("--memory SIZE", values.memory_bytes, "Memory");
  options.add_number("--temperature T", values.temperature, 0, 100, "Temperature");
  options.add_integer("-n,--tokens N", values.tokens, -1, 1000, "Tokens");
  options.add_seed(values.seed, "Seed");
  options.add_duration("--timeout TIME", values.timeout_s, 1, "Timeout");
  options.add_duration("--seed-time TIME", values.seed_time_min, 60, "Time");
  options.add_flag("--list", values.list, "List");
  options.add_flag("--overwrite", values.overwrite, "Overwrite");
  options.require("--overwrite", "--list");
  options.parse({std::move(arguments), console, {}});
  return values;
}

Values parse(std::vector<std::string> arguments) {
  Console console;
  return parse(console, std::move(arguments));
}

void check_refused(std::vector<std::string> arguments, const std::string& part) {
  arguments.emplace_back("the-source");
  CHECK_ERROR(parse(arguments), ErrorKind::usage, part);
}

}  // namespace

TEST_CASE("options take sizes, numbers, repeated values and prompts that look like options") {
  Console console;
  const auto values = parse(
      console, {"--peer", "a:1", "--peer", "b:2", "the-source", "--memory", "64MiB", "-p", "--json",
                "--temperature=0.5", "-n", "-1", "--seed", "18446744073709551615", "--type", "q8", "--list"});
  CHECK(values.source == "the-source");
  CHECK(values.prompt == "--json");
  CHECK(values.type == "q8");
  CHECK(values.peers == std::vector<std::string>{"a:1", "b:2"});
  CHECK(values.memory_bytes == 64u << 20);
  CHECK(values.temperature == 0.5);
  CHECK(values.tokens == -1);
  CHECK(values.seed == std::numeric_limits<std::uint64_t>::max());
  CHECK(values.list);
  CHECK_FALSE(console.json());
  CHECK(parse({"x", "-p", ""}).prompt == "");
}

TEST_CASE("a seed of -1 is none, and durations have units") {
  CHECK_FALSE(parse({"x", "--seed", "-1"}).seed.has_value());
  CHECK(parse({"x", "--timeout", "5m"}).timeout_s == 300);
  CHECK(parse({"x", "--timeout", "5"}).timeout_s == 5);
  CHECK(parse({"x", "--seed-time", "1h"}).seed_time_min == 60);
  CHECK(parse({"x", "--seed-time", "0.5"}).seed_time_min == 0.5);
}

TEST_CASE("a fetch that nobody watches ends after ten minutes without a byte") {
  Console console;
  console.configure(false, true);
  fetch::FetchRequest request;
  NetworkOptions network;
  apply(network, console, request);
  CHECK(request.timeout_s == 600);
  network.timeout_s = 0;
  apply(network, console, request);
  CHECK(request.timeout_s == 0);
  console.configure(true, false);
  network.timeout_s = 90;
  apply(network, console, request);
  CHECK(request.timeout_s == 90);
}

TEST_CASE("options that are not given keep their values") {
  const auto values = parse({"x"});
  CHECK_FALSE(values.prompt.has_value());
  CHECK(values.type == "q4");
  CHECK(values.temperature == 0.7);
  CHECK(values.tokens == 128);
  CHECK_FALSE(values.seed.has_value());
}

TEST_CASE("--json and --quiet configure the console") {
  Console console;
  parse(console, {"x", "--json"});
  CHECK(console.json());
  parse(console, {"x", "-q"});
  CHECK(console.quiet());
  CHECK_FALSE(console.json());
}

TEST_CASE("an error names the option, what was given and what was expected") {
  check_refused({"--memory", "lots"},
                "--memory: 'lots' is not a size such as 64MiB or 10M (sluice test --help)");
  check_refused({"--type", "q5"}, "--type: 'q5' is not one of q4, q8");
  check_refused({"--temperature", "nan"}, "--temperature: 'nan' is not a number from 0 to 100");
  check_refused({"--temperature", "0.5x"}, "'0.5x' is not a number");
  check_refused({"-n", "-2"}, "--tokens: '-2' is not an integer from -1 to 1000");
  check_refused({"-n", "1001"}, "'1001' is not an integer");
  check_refused({"-n", "1.5"}, "'1.5' is not an integer");
  check_refused({"--seed", "-2"},
                "--seed: '-2' is not an integer from 0 to 18446744073709551615, nor -1 (random)");
  check_refused({"--seed", "18446744073709551616"}, "is not an integer");
  check_refused({"--memory", "16EiB"}, "--memory: '16EiB' is not a size such as 64MiB or 10M");
  check_refused({"--memory", "0.5"}, "--memory: '0.5' is less than one byte");
  check_refused({"--memory", "-1"}, "--memory: '-1' is not a size such as 64MiB or 10M");
  check_refused({"--temperature", "1e400"}, "--temperature: '1e400' is not a number from 0 to 100");
  check_refused({"--timeout", "-1"}, "--timeout: '-1' is not a duration such as 90s, 5m or 1h30m");
  check_refused({"--timeout", "1e30"}, "--timeout: '1e30' is not a duration");
  check_refused({"--timeout", "soon"}, "--timeout: 'soon' is not a duration");
  check_refused({"-p", "a", "-f", "b"}, "--prompt cannot be given together with --file");
  check_refused({"--overwrite"}, "--overwrite requires --list");
  check_refused({"--seed", "1", "--seed", "2"}, "--seed may be given only once");
  CHECK_ERROR(parse({}), ErrorKind::usage, "SOURCE is required (sluice test --help)");
  CHECK_ERROR(parse({"x", "--seed"}), ErrorKind::usage, "--seed needs a value (sluice test --help)");
  CHECK_ERROR(parse({"x", "y"}), ErrorKind::usage, "unexpected argument 'y'");
}

TEST_CASE("an unknown option is named, and the nearest one suggested") {
  check_refused({"--memry", "64MiB"}, "unknown option --memry; did you mean --memory?");
  check_refused({"--memry=64MiB"}, "unknown option --memry; did you mean --memory?");
  check_refused({"--temperatur", "0"}, "unknown option --temperatur; did you mean --temperature?");
  check_refused({"--banana"}, "unknown option --banana (sluice test --help)");
  check_refused({"-t", "4"}, "unknown option -t (sluice test --help)");  // there is no --threads here
}

TEST_CASE("spellings of llama.cpp are taken where the option exists, and answered where it does not") {
  CHECK(parse({"x", "--temp", "0.25"}).temperature == 0.25);
  CHECK(parse({"x", "--n-predict", "5"}).tokens == 5);
  CHECK(parse({"x", "-s", "7"}).seed == 7u);
  check_refused({"--temp", "hot"}, "--temperature: 'hot' is not a number");
  check_refused({"--temp", "1", "--temperature", "1"}, "--temperature may be given only once");
  check_refused({"-ngl", "99"}, "unknown option -ngl: Sluice computes on the CPU");
  check_refused({"--model=x"}, "unknown option --model: the model is the first argument");
  check_refused({"-c", "512"}, "unknown option -c (sluice test --help)");  // there is no --context here
}

TEST_CASE("a value that is not one of the choices gets the nearest one") {
  check_refused({"--type", "q5"}, "'q5' is not one of q4, q8; did you mean q4?");
  check_refused({"--type", "Q4_K_M"}, "did you mean q4?");
  const std::array<std::string, 3> types = {"q4", "q8", "bf16"};
  CHECK(base::nearest_choice("Q8", types) == "q8");
  CHECK(base::nearest_choice("Q6_K", types) == "q8");
  CHECK(base::nearest_choice("IQ2_XS", types) == "q4");
  CHECK(base::nearest_choice("fp16", types) == "bf16");
  CHECK(base::nearest_choice("f32", types) == "bf16");
  CHECK(base::nearest_choice("best", types).empty());
  CHECK(base::nearest_choice("4", types) == "q4");  // one letter is missing
}

TEST_CASE("a misspelt command gets the nearest name, a strange one gets none") {
  CHECK(suggest_command("fech") == "fetch");
  CHECK(suggest_command("verfiy") == "verify");
  CHECK(suggest_command("ru") == "run");
  CHECK(suggest_command("release") == "releases");
  CHECK(suggest_command("pull") == "fetch");
  CHECK(suggest_command("list") == "models");
  CHECK(suggest_command("banana").empty());
  CHECK(suggest_command("rm") == "models rm");
  CHECK(suggest_command("chat") == "run");
  CHECK(suggest_command("fetch-worke").empty());  // hidden commands are not suggested
}

TEST_CASE("the nearest name is the only completion, else differs in few letters") {
  const std::array<std::string, 4> names = {"--limit-down", "--limit-up", "--list", "--port"};
  CHECK(base::nearest_name("--limit-dwn", names) == "--limit-down");
  CHECK(base::nearest_name("--lst", names) == "--list");
  CHECK(base::nearest_name("--por", names) == "--port");
  CHECK(base::nearest_name("--limit", names).empty());  // two options begin with it
  CHECK(base::nearest_name("--temperature", names).empty());
  CHECK(base::edit_distance("kitten", "sitting") == 3);
  CHECK(base::edit_distance("", "abc") == 3);
}

TEST_CASE("lines are wrapped between words") {
  CHECK(wrap("one two three", 9) == "one two\nthree\n");
  CHECK(wrap("one two three", 7) == "one two\nthree\n");
  CHECK(wrap("Threads (default: 2)", 18) == "Threads\n(default: 2)\n");
  CHECK(wrap("one two three", 80, 4) == "    one two three\n");
  CHECK(wrap("a https://example.org/longer-than-a-line b", 12, 2) ==
        "  a\n  https://example.org/longer-than-a-line\n  b\n");
  CHECK(wrap("\xC3\xA9\xC3\xA9\xC3\xA9 \xC3\xA9", 5) ==
        "\xC3\xA9\xC3\xA9\xC3\xA9 \xC3\xA9\n");  // 5 characters
}

TEST_CASE("a help page has a column of names and one of texts") {
  const HelpPage page{
      "Does it.",
      "sluice test [OPTIONS]",
      {{"Output", {{"-o, --output FILE", "File to write"}, {"--a-name-that-is-long N", "Number"}}}},
      {"sluice test -o x"},
      {"The end."},
      24};
  CHECK(lay_out(page, 34) ==
        "Does it.\n\n"
        "Usage: sluice test [OPTIONS]\n\n"
        "Output:\n"
        "  -o, --output FILE     File to\n"
        "                        write\n"
        "      --a-name-that-is-long N\n"
        "                        Number\n\n"
        "Example:\n"
        "  sluice test -o x\n\n"
        "The end.\n");
}
