// The way from argv to an exit code: finds the command, installs the interrupt handler, calls the command and
// turns an exception into a message and an exit code. Commands let their errors pass, so that all failures
// look alike. Everything here runs on the main thread.

#include "cli/cli.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <new>
#include <system_error>

#include "base/error.h"
#include "base/hasher.h"
#include "base/spelling.h"
#include "cli/commands.h"
#include "cli/help_page.h"
#include "cli/interrupt.h"
#include "cli/options.h"
#include "fetch/fetch.h"
#include "runtime/runtime.h"

namespace sluice::cli {
namespace {

constexpr std::string_view kVersion = "sluice " SLUICE_VERSION;  // cli/CMakeLists.txt

// The commands stand in the order of --help: from getting a model to running it, then publishing and
// measuring. Commands that only print end with 0 when their reader closes the pipe
// (Command::closed_output_exit).
constexpr std::array kCommands = {
    Command{"fetch", "Download a release by magnet link, .torrent or name", fetch_command},
    Command{"verify", "Verify a release folder or a .sluice file, and repair it", verify_command},
    Command{"convert", "Convert a released checkpoint to one .sluice file, or export it", convert_command},
    Command{"run", "Generate text from a prompt", run_command, 0},
    Command{"publish", "Make the torrent, magnet link and manifest of a release", publish_command},
    Command{"seed", "Share a release", seed_command},
    Command{"keygen", "Make a key pair for signing", keygen_command},
    Command{"sign", "Sign a manifest", sign_command},
    Command{"trust", "Trust a key, or list the trusted keys", trust_command},
    Command{"inspect", "Show what a file is and what it holds", inspect_command, 0},
    Command{"bench", "Measure prefill and decode speed", bench_command, 0},
    Command{"eval", "Measure perplexity, KL divergence and routing agreement", eval_command, 0},
    Command{"releases", "List the known releases", releases_command, 0},
    Command{"models", "List what the model store holds, and remove it", models_command, 0},
    Command{"fetch-worker", "Helper process of fetch", fetch_worker_command, 7, true},
};

// Commands of other programs (ollama, llama.cpp, huggingface-cli, aria2) that do something similar; suggested
// when one of them is typed.
constexpr std::pair<std::string_view, std::string_view> kHabits[] = {
    {"pull", "fetch"},       {"download", "fetch"},     {"get", "fetch"},       {"add", "fetch"},
    {"check", "verify"},     {"generate", "run"},       {"chat", "run"},        {"quantize", "convert"},
    {"export", "convert"},   {"create", "publish"},     {"push", "publish"},    {"share", "seed"},
    {"list", "models"},      {"ls", "models"},          {"rm", "models rm"},    {"remove", "models rm"},
    {"delete", "models rm"}, {"prune", "models prune"}, {"show", "inspect"},    {"info", "inspect"},
    {"ps", "models"},        {"benchmark", "bench"},    {"perplexity", "eval"}, {"-v", "--version"},
    {"help", "--help"}};

std::string top_help() {
  HelpPage page{
      "Sluice takes a mixture-of-experts model from its magnet link to text and verifies every byte.",
      "sluice COMMAND [ARGUMENTS]",
      {},
      {"sluice run stories-moe -p \"Once upon a time\""},
      {},
      20};
  HelpGroup shown{"Commands", {}};
  for (const Command& command : kCommands) {
    // fetch-worker is started by fetch alone; its stdin and stdout carry a protocol that nobody can type.
    if (!command.hidden) shown.entries.push_back({std::string(command.name), std::string(command.summary)});
  }
  page.groups.push_back(std::move(shown));
  page.groups.push_back({"Options of every command",
                         {{"-h, --help", "Print the command's options and an example"},
                          {"--json", "Print one JSON object a line; the last is the result or the error"},
                          {"-q, --quiet", "Print only the result and errors"}}});
  page.groups.push_back({"Exit codes",
                         {{"0", "Done"},
                          {"1", "Verification failed, or there was nothing to verify against"},
                          {"2", "Usage error"},
                          {"3", "Incomplete; the same command resumes"},
                          {"4", "No space on the disk"},
                          {"5", "No peer delivered in time"},
                          {"6", "Network error"},
                          {"7", "Interrupted; the same command resumes"},
                          {"8", "Signature not trusted"},
                          {"9", "Malformed, unsafe or unsupported input"},
                          {"10", "I/O error"},
                          {"130", "Ctrl-C a second time; the first one stops cleanly"}}});
  page.groups.push_back(
      {"Environment",
       {{"XDG_DATA_HOME", "Its folder sluice is the model store (default: ~/.local/share)"},
        {"XDG_CONFIG_HOME", "Its folder sluice/trusted holds trusted keys (default: ~/.config)"},
        {"XDG_CACHE_HOME", "Its folder sluice holds caches (default: ~/.cache)"},
        {"SLUICE_DATA_DIR", "Folder whose manifests/ holds further known releases"},
        {"SLUICE_ISA", "Instruction set to use: avx512, avxvnni, avx2 or generic"},
        {"SLUICE_ENGINE", "What computes matrix products: auto, own or onednn"},
        {"NO_COLOR", "Print without colours"}}});
  page.closing.push_back("Sizes and rates are written 64MiB, 10M/s. sluice --version prints the version.");
  return lay_out(page, help_columns());
}

const Command* find_command(std::string_view name) {
  const auto found = std::ranges::find(kCommands, name, &Command::name);
  return found == kCommands.end() ? nullptr : &*found;
}

[[noreturn]] void throw_unknown_command(const std::string& name) {
  throw base::Error(base::ErrorKind::usage, "unknown command '" + name + "'" +
                                                base::did_you_mean(suggest_command(name)) +
                                                " (sluice --help lists the commands)");
}

int dispatch(const std::vector<std::string>& arguments, Console& console, const Command*& command) {
  // `sluice --json fetch` means the same as `sluice fetch --json`.
  const auto name = std::ranges::find_if(arguments, [](const std::string& text) {
    return text != "--json" && text != "--quiet" && text != "-q";
  });
  const auto is_help = [](const std::string& text) {
    return text == "--help" || text == "-h" || text == "help";
  };
  // `sluice help run` means the same as `sluice run --help`.
  if (name != arguments.end() && *name == "help" && name + 1 != arguments.end() && !is_help(*(name + 1)))
    return dispatch({*(name + 1), "--help"}, console, command);
  if (name == arguments.end() || is_help(*name)) {
    if (name == arguments.end()) {
      // Calling the program without a command is an error, so its help does not go to stdout, where a script
      // might take it for a result.
      console.fail_with_page(top_help());
      throw base::Error(base::ErrorKind::usage, "a command is missing");
    }
    console.print_page(top_help());
    return 0;
  }
  if (*name == "--version" || *name == "-V" || *name == "version") {
    const runtime::MatmulInfo matmul = runtime::matmul_info();
    console.print_page(std::string(kVersion) +
                       "\nown kernels: " + std::string(runtime::to_string(matmul.isa)) + "\noneDNN " +
                       matmul.onednn_version + ": " + matmul.onednn_isa + "\nlibtorrent " +
                       fetch::libtorrent_version() + "\n" + base::openssl_version() + "\n");
    return 0;
  }
  // The command is set before the call, so that run_command_line() knows whose exit code counts after
  // OutputClosed.
  command = find_command(*name);
  if (command == nullptr) throw_unknown_command(*name);
  // The options before the name are passed to the command, whose Options parse them as well.
  std::vector<std::string> rest(arguments.begin(), name);
  rest.insert(rest.end(), name + 1, arguments.end());
  // The handler is installed only now: until here Ctrl-C ends the program at once, and nothing has to be
  // kept.
  return command->function({std::move(rest), console, InterruptHandler::install()});
}

}  // namespace

std::span<const Command> commands() { return kCommands; }

std::string suggest_command(std::string_view name) {
  // A known habit is a surer guess than the nearest spelling.
  for (const auto& [habit, ours] : kHabits) {
    if (name == habit) return std::string(ours);
  }
  std::vector<std::string> names;
  for (const Command& command : kCommands) {
    if (!command.hidden) names.emplace_back(command.name);
  }
  return base::nearest_name(name, names);
}

int run_command_line(const std::vector<std::string>& arguments) {
  std::signal(SIGPIPE, SIG_IGN);  // a closed reader is reported as EPIPE, and then as OutputClosed
  Console console;
  // Errors of the command line itself must be printed in the form that it asks for.
  const auto has = [&](std::string_view flag) {
    return std::ranges::find(arguments, flag) != arguments.end();
  };
  console.configure(has("--json"), has("--quiet") || has("-q"));
  const Command* command = nullptr;
  try {
    return dispatch(arguments, console, command);
  } catch (const HelpPrinted&) {
    return 0;
  } catch (const OutputClosed&) {
    return command == nullptr ? 0 : command->closed_output_exit;
  } catch (const base::Error& error) {
    return console.fail(error.kind(), error.what());
    // Rooms translate the errors of the system and of other libraries themselves. These two remain for what
    // can fail anywhere.
  } catch (const std::bad_alloc&) {
    return console.fail(base::ErrorKind::io, "out of memory");
  } catch (const std::system_error& error) {  // includes std::filesystem::filesystem_error
    const bool full = error.code() == std::errc::no_space_on_device;
    return console.fail(full ? base::ErrorKind::no_space : base::ErrorKind::io, error.what());
  }
}

}  // namespace sluice::cli
