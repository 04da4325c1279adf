#include "cli/cli.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <new>
#include <system_error>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/options.h"
#include "cli/table.h"

namespace sluice::cli {
namespace {

constexpr std::string_view kVersion = "sluice 0.1.0";

constexpr std::array kCommands = {
    Command{"fetch", "download a release by magnet link, .torrent or name", fetch_command},
    Command{"verify", "prove a release folder or a .sluice file", verify_command},
    Command{"convert", "turn a released checkpoint into one .sluice file", convert_command},
    Command{"run", "execute a prompt, streaming", run_command, 0},
    Command{"publish", "make torrent, magnet link and manifest of a release", publish_command},
    Command{"seed", "share a release", seed_command},
    Command{"keygen", "make a key pair to sign with", keygen_command},
    Command{"sign", "sign a manifest, so that others can see that it is yours", sign_command},
    Command{"trust", "trust a key, or list the trusted ones", trust_command},
    Command{"inspect", "say what a file is and holds, without loading it", inspect_command, 0},
    Command{"bench", "measure prefill and decode speed", bench_command, 0},
    Command{"eval", "perplexity, KL divergence, routing agreement", eval_command, 0},
    Command{"releases", "list the known releases", releases_command, 0},
    Command{"models", "list what the model store holds", models_command, 0},
    Command{"fetch-worker", "helper process of fetch", fetch_worker_command, 7, true},
};

// Levenshtein distance: insertions, deletions and substitutions cost one each.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j < row.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({row[j - 1] + 1, above + 1, diagonal + (a[i - 1] != b[j - 1] ? 1 : 0)});
      diagonal = above;
    }
  }
  return row.back();
}

std::string top_help() {
  std::string text =
      "Sluice takes a mixture-of-experts model from its magnet link to text, and proves every byte on the "
      "way.\n\n"
      "usage: sluice COMMAND [ARGUMENTS]\n\n";
  Table table;
  for (const Command& command : kCommands) {
    if (!command.hidden) table.add_row({"  " + std::string(command.name), std::string(command.summary)});
  }
  text += table.text();
  text +=
      "\nExample:\n"
      "  sluice run stories-moe -p \"Once upon a time\"\n\n"
      "Every command has --help, --json (one JSON object a line on stdout, the last is the result or the "
      "error)\n"
      "and --quiet. Sizes and rates are written 64MiB, 10M/s.\n\n"
      "Exit codes:\n"
      "  0  done\n"
      "  1  verification failed, or there was nothing to verify against\n"
      "  2  usage\n"
      "  3  incomplete, can be resumed\n"
      "  4  no space on the disk\n"
      "  5  no peer delivered in time\n"
      "  6  network\n"
      "  7  interrupted, can be resumed\n"
      "  8  signature not trusted\n"
      "  9  malformed, unsafe or unsupported input\n"
      " 10  I/O error\n"
      "Ctrl-C stops cleanly; a second Ctrl-C ends at once with 130.\n\n"
      "Environment: XDG_DATA_HOME (the model store is in its folder sluice), XDG_CONFIG_HOME (trusted keys:\n"
      "sluice/trusted), SLUICE_DATA_DIR (manifests), SLUICE_ISA=avx512|avxvnni|avx2|generic, NO_COLOR.\n";
  return text;
}

const Command* find_command(std::string_view name) {
  const auto found = std::ranges::find(kCommands, name, &Command::name);
  return found == kCommands.end() ? nullptr : &*found;
}

[[noreturn]] void throw_unknown_command(const std::string& name) {
  std::string message = "there is no command '" + name + "'";
  if (const auto near = suggest_command(name); !near.empty()) {
    message += "; did you mean '" + std::string(near) + "'?";
  }
  throw base::Error(base::ErrorKind::usage, message + " (sluice --help lists them)");
}

int dispatch(const std::vector<std::string>& arguments, Console& console, const Command*& command) {
  // `sluice --json fetch` means the same as `sluice fetch --json`.
  const auto name = std::ranges::find_if(
      arguments, [](const std::string& text) { return text != "--json" && text != "--quiet"; });
  if (name == arguments.end() || *name == "--help" || *name == "-h" || *name == "help") {
    if (name == arguments.end()) {
      std::fputs(top_help().c_str(), stderr);
      throw base::Error(base::ErrorKind::usage, "a command is missing");
    }
    console.write(top_help());
    return 0;
  }
  if (*name == "--version") {
    console.write(std::string(kVersion) + "\n");
    return 0;
  }
  command = find_command(*name);
  if (command == nullptr) throw_unknown_command(*name);
  std::vector<std::string> rest(arguments.begin(), name);
  rest.insert(rest.end(), name + 1, arguments.end());
  return command->function({std::move(rest), console, InterruptHandler::install()});
}

}  // namespace

std::span<const Command> commands() { return kCommands; }

std::string_view suggest_command(std::string_view name) {
  std::string_view best;
  std::size_t best_distance = 3;  // farther names are no misspelling
  for (const Command& command : kCommands) {
    if (command.hidden) continue;
    const std::size_t distance = edit_distance(name, command.name);
    if (distance < best_distance && distance < command.name.size()) {
      best_distance = distance;
      best = command.name;
    }
  }
  return best;
}

int run_command_line(const std::vector<std::string>& arguments) {
  std::signal(SIGPIPE, SIG_IGN);  // a reader that goes away is seen as EPIPE: OutputClosed
  Console console;
  // Errors in the command line itself are to be told in the form that it asks for.
  const auto has = [&](std::string_view flag) {
    return std::ranges::find(arguments, flag) != arguments.end();
  };
  console.configure(has("--json"), has("--quiet"));
  const Command* command = nullptr;
  try {
    return dispatch(arguments, console, command);
  } catch (const HelpPrinted&) {
    return 0;
  } catch (const OutputClosed&) {
    return command == nullptr ? 0 : command->closed_output_exit;
  } catch (const base::Error& error) {
    return console.fail(error.kind(), error.what());
  } catch (const std::bad_alloc&) {
    return console.fail(base::ErrorKind::io, "out of memory");
  } catch (const std::system_error& error) {  // std::filesystem's too
    const bool full = error.code() == std::errc::no_space_on_device;
    return console.fail(full ? base::ErrorKind::no_space : base::ErrorKind::io, error.what());
  }
}

}  // namespace sluice::cli
