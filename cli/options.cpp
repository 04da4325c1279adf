// Parses the arguments of one command with CLI11, and words its errors. CLI11 knows names and how many values
// each takes; what a value means is read here, so that messages name the option, the text that was given and
// what was expected, and --help shows no types of C++.
//
// parse() fills in the variables of one command on one thread. The functions that read values hold references
// to these variables, so the variables must outlive the Options.

#include "cli/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

#include "base/error.h"
#include "base/parallel.h"
#include "base/spelling.h"
#include "base/text.h"
#include "cli/help_page.h"
#include "cli/table.h"

namespace sluice::cli {
namespace {

constexpr unsigned kThreadsMax = 1024;
// TCP and UDP ports have 16 bits.
constexpr int kPortMax = 65535;

// Spellings of llama.cpp, aria2 and huggingface-cli that mean the same as an option of ours. They are
// accepted wherever that option is, and --help does not list them.
constexpr std::pair<std::string_view, std::string_view> kAliases[] = {
    {"--temperature", "--temp"},
    {"--threads", "-t"},
    {"--context", "-c,--ctx-size"},
    {"--tokens", "--n-predict,--predict"},
    {"--seed", "-s"},
    {"--system", "--system-prompt"},
    {"--select", "--include"},
    {"--limit-down", "--max-download-limit"},
    {"--limit-up", "--max-upload-limit"}};

// Options of other programs that Sluice lacks, and what to do instead. They are looked up only after the
// arguments were refused, so that none of them can hide an option of ours.
constexpr std::pair<std::string_view, std::string_view> kAnswers[] = {
    {"-ngl", "Sluice computes on the CPU and has no GPU layers; leave it out"},
    {"--n-gpu-layers", "Sluice computes on the CPU and has no GPU layers; leave it out"},
    {"--gpu-layers", "Sluice computes on the CPU and has no GPU layers; leave it out"},
    {"-m", "the model is the first argument, without an option"},
    {"--model", "the model is the first argument, without an option"},
    {"-cnv", "--chat wraps the prompt as an instruction"},
    {"--conversation", "--chat wraps the prompt as an instruction"},
    {"-i", "--chat wraps the prompt as an instruction"},
    {"--interactive", "--chat wraps the prompt as an instruction"},
    {"-sys", "the system prompt is --system TEXT, with --chat"},
    {"--no-display-prompt", "--quiet leaves the prompt out"},
    {"-d", "the folder is -o DIR"},
    {"--dir", "the folder is -o DIR"},
    {"--local-dir", "the folder is -o DIR"},
    {"--log-disable", "--quiet prints the text alone"},
    {"--format", "--json prints JSON"},
    {"--mlock", "the model is mapped; --memory SIZE limits how much of it is kept in memory"},
    {"--no-mmap", "the model is mapped; --memory SIZE limits how much of it is kept in memory"},
    {"-b", "prompts are computed in blocks of a fixed size; leave it out"},
    {"--batch-size", "prompts are computed in blocks of a fixed size; leave it out"},
    {"-ctk", "the type of the KV cache is --kv f32, bf16 or q8"},
    {"-ctv", "the type of the KV cache is --kv f32, bf16 or q8"},
    {"--cache-type-k", "the type of the KV cache is --kv f32, bf16 or q8"},
    {"--cache-type-v", "the type of the KV cache is --kv f32, bf16 or q8"},
    {"-fa", "attention has one implementation; leave it out"},
    {"--flash-attn", "attention has one implementation; leave it out"}};

// "-o,--output FILE" -> {"-o,--output", "FILE"}
std::pair<std::string, std::string> split_names(const std::string& names) {
  const auto space = names.find(' ');
  return {names.substr(0, space), space == std::string::npos ? std::string() : names.substr(space + 1)};
}

// "-o,--output" -> "-o, --output", as --help shows it
std::string with_spaces(std::string names) {
  const auto comma = names.find(',');
  return comma == std::string::npos ? names : names.insert(comma + 1, " ");
}

std::string with_default(const std::string& help, const std::string& preset) {
  // A help text that words the default itself knows better than the value of the variable, such as "all free
  // memory".
  const bool told = preset.empty() || help.find("(default:") != std::string::npos;
  return told ? help : help + " (default: " + preset + ")";
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t start = 0; start <= text.size();) {
    const std::size_t end = std::min(text.find('\n', start), text.size());
    lines.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return lines;
}

/// Reads the whole text as one number, or nothing. from_chars() ignores the locale, which could otherwise
/// turn "0.5" into 0; it takes no leading "+", so that is skipped here.
template <typename Number>
std::optional<Number> parse_whole(const std::string& text) {
  const char* const begin = text.data() + (text.starts_with('+') ? 1 : 0);
  const char* const end = text.data() + text.size();
  Number number{};
  const auto [stop, failure] = std::from_chars(begin, end, number);
  return failure == std::errc() && stop == end ? std::optional(number) : std::nullopt;
}

/// Reads an integer in [low, high] and returns a negative one as its two's complement. Negative and positive
/// numbers are read apart, because no integer type holds both -1 and 2^64 - 1, which --seed takes.
std::optional<std::uint64_t> parse_integer(const std::string& text, std::int64_t low, std::uint64_t high) {
  if (text.starts_with('-')) {
    const auto number = parse_whole<std::int64_t>(text);
    if (!number || *number < low || (*number > 0 && static_cast<std::uint64_t>(*number) > high))
      return std::nullopt;
    return static_cast<std::uint64_t>(*number);
  }
  const auto number = parse_whole<std::uint64_t>(text);
  if (!number || *number > high || (low > 0 && *number < static_cast<std::uint64_t>(low)))
    return std::nullopt;
  return number;
}

// As a user would write it: 536870912 -> "512MiB".
std::string to_option_text(std::uint64_t bytes) {
  constexpr std::array kUnits = {"", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  for (; bytes % 1024 == 0 && bytes > 0 && unit + 1 < kUnits.size(); ++unit) bytes /= 1024;
  return std::to_string(bytes) + kUnits[unit];
}

std::uint64_t parse_size(const std::string& name, const std::string& text) {
  const auto bytes = base::parse_bytes(text);
  if (!bytes) throw CLI::ValidationError(name, "'" + text + "' is not a size such as 64MiB or 10M");
  // 0 often means "no limit", which 0.5 does not.
  if (*bytes == 0 && text.find_first_of("123456789") != std::string::npos)
    throw CLI::ValidationError(name, "'" + text + "' is less than one byte");
  return *bytes;
}

/// "-n,--tokens" -> "-n,--tokens,--n-predict,--predict"
std::string with_aliases(const std::string& names) {
  for (const auto& [ours, aliases] : kAliases) {
    if (names == ours || names.ends_with("," + std::string(ours))) return names + "," + std::string(aliases);
  }
  return names;
}

double parse_duration(const std::string& name, const std::string& text, double unit_s) {
  const auto seconds = base::parse_duration(text, unit_s);
  if (!seconds) throw CLI::ValidationError(name, "'" + text + "' is not a duration such as 90s, 5m or 1h30m");
  return *seconds;
}

// "--seed: 1 required N missing" and "--seed: At Most 1 required but received 2" in plain words.
std::string describe_mismatch(const std::string& text) {
  const std::string name = text.substr(0, text.find(':'));
  return name + (text.ends_with("missing") ? " needs a value" : " may be given only once");
}

// "--prompt excludes --file" in plain words.
std::string describe_exclusion(std::string text) {
  constexpr std::string_view kWord = " excludes ";
  const auto word = text.find(kWord);
  return word == std::string::npos ? text
                                   : text.replace(word, kWord.size(), " cannot be given together with ");
}

}  // namespace

struct Options::Impl {
  explicit Impl(const std::string& command) : app("", "sluice " + command) {}

  using Reader = std::function<void(const std::string& name, const std::string& text)>;

  /// `name` is the longest of the option's names, for messages.
  CLI::Option* add_value(const std::string& names, const std::string& help, Reader read) {
    // CLI11 gets the names without the value's name, and hands every value over as text.
    const auto [plain, value_name] = split_names(names);
    list(with_spaces(plain) + (value_name.empty() ? "" : " " + value_name), help);
    const std::string name = plain.substr(plain.find(',') + 1);
    return app
        .add_option_function<std::string>(
            with_aliases(plain),
            [name, read = std::move(read)](const std::string& text) { read(name, text); })
        ->type_name(value_name);
  }

  void list(const std::string& names, const std::string& help) {
    groups.back().entries.push_back({names, help});
  }

  void add_position(const std::string& name, std::string& value, const std::string& help, bool is_required) {
    positions.push_back({name, help});
    usage += is_required ? " " + name : " [" + name + "]";
    app.add_option(name, value)->required(is_required);
  }

  [[nodiscard]] std::string help_text() const {
    HelpPage page{summary, app.get_name() + usage + " [OPTIONS]", {}, examples, {}};
    if (!positions.empty()) page.groups.push_back({"Arguments", positions});
    for (const HelpGroup& group : groups) {
      if (!group.entries.empty()) page.groups.push_back(group);
    }
    page.groups.push_back({"General",
                           {{"--json", "Print one JSON object a line; the last is the result or the error"},
                            {"-q, --quiet", "Print only the result and errors"},
                            {"-h, --help", "Print this help"}}});
    // Notes of the command come before the line that all commands share.
    page.closing = notes;
    page.closing.push_back("sluice --help lists exit codes and environment variables.");
    return lay_out(page, help_columns());
  }

  /// What to do instead of an option of another program; empty when `arguments` hold none. CLI11 reads "-ngl"
  /// as "-n gl", so the refusal itself may be about another option.
  [[nodiscard]] std::string answer_habit(const std::vector<std::string>& arguments) const {
    for (const std::string& argument : arguments) {
      const std::string name = argument.substr(0, argument.find('='));
      const auto habit =
          std::ranges::find(kAnswers, name, &std::pair<std::string_view, std::string_view>::first);
      if (habit != std::end(kAnswers) && app.get_option_no_throw(name) == nullptr)
        return "unknown option " + name + ": " + std::string(habit->second);
    }
    return {};
  }

  /// The message for arguments that no option has taken. CLI11 keeps them in another order, so the first one
  /// is looked up among `arguments`. An unknown option is named before an unexpected word, because the word
  /// is often the value of that option.
  [[nodiscard]] std::string describe_extras(const std::vector<std::string>& arguments) const {
    const auto extras = app.remaining();
    const auto is_extra = [&](const std::string& text) {
      return std::ranges::find(extras, text) != extras.end();
    };
    const auto unknown = std::ranges::find_if(
        arguments, [&](const std::string& text) { return text.starts_with('-') && is_extra(text); });
    if (unknown == arguments.end()) {
      const auto first = std::ranges::find_if(arguments, is_extra);
      return "unexpected argument '" + (first == arguments.end() ? extras.front() : *first) + "'";
    }
    const std::string name = unknown->substr(0, unknown->find('='));
    return "unknown option " + name + base::did_you_mean(suggest(name));
  }

  [[nodiscard]] std::string suggest(const std::string& unknown) const {
    std::vector<std::string> names;
    // The first long name is ours, and those after it are aliases.
    for (const CLI::Option* option : app.get_options()) {
      if (!option->get_lnames().empty()) names.push_back("--" + option->get_lnames().front());
    }
    // A short option is one letter, and every other letter would be as near.
    return unknown.starts_with("--") ? base::nearest_name(unknown, names) : std::string();
  }

  CLI::App app;
  std::string summary;
  std::string usage;  ///< the arguments after the command's name
  std::vector<std::string> examples;
  std::vector<std::string> notes;
  std::vector<HelpEntry> positions;
  std::vector<HelpGroup> groups;
  bool json = false;
  bool quiet = false;
};

Options::Options(const std::string& command, const std::string& summary, const std::string& example)
    : impl_(std::make_unique<Impl>(command)) {
  impl_->summary = summary;
  impl_->examples = lines_of(example);
  // This is the heading for options that are declared before the first group().
  impl_->groups.push_back({"Options", {}});
  // Each command has these three, so that no command can lack them. help_text() lists them itself.
  impl_->app.set_help_flag("-h,--help");
  impl_->app.add_flag("--json", impl_->json);
  impl_->app.add_flag("-q,--quiet", impl_->quiet);
}

Options::~Options() = default;

void Options::group(const std::string& title) { impl_->groups.push_back({title, {}}); }

void Options::add_argument(const std::string& name, std::string& value, const std::string& help) {
  impl_->add_position(name, value, help, true);
}

void Options::add_optional_argument(const std::string& name, std::string& value, const std::string& help) {
  impl_->add_position(name, value, help, false);
}

void Options::add_model(std::string& value) {
  add_argument("MODEL", value,
               "A .sluice or GGUF file, a release folder, a name that sluice models or sluice releases "
               "lists, a magnet "
               "link or the URL of a .torrent");
}

void Options::add_flag(const std::string& names, bool& value, const std::string& help) {
  impl_->list(with_spaces(names), help);
  impl_->app.add_flag(names, value);
}

void Options::add_text(const std::string& names, std::string& value, const std::string& help) {
  impl_->add_value(names, with_default(help, value),
                   [&value](const auto&, const std::string& text) { value = text; });
}

void Options::add_text(const std::string& names, std::optional<std::string>& value, const std::string& help) {
  impl_->add_value(names, help, [&value](const auto&, const std::string& text) { value = text; });
}

void Options::add_list(const std::string& names, std::vector<std::string>& values, const std::string& help) {
  const auto [plain, value_name] = split_names(names);
  impl_->list(with_spaces(plain) + " " + value_name, help + " (may be repeated)");
  impl_->app.add_option(with_aliases(plain), values)
      ->type_name(value_name)
      ->expected(1)
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

void Options::add_choice(const std::string& names, std::string& value,
                         const std::vector<std::string>& choices, const std::string& help) {
  impl_->add_value(
      names, with_default(help, value), [&value, choices](const std::string& name, const std::string& text) {
        if (std::ranges::find(choices, text) == choices.end()) {
          std::string known;
          for (const std::string& choice : choices) known += (known.empty() ? "" : ", ") + choice;
          throw CLI::ValidationError(name, "'" + text + "' is not one of " + known +
                                               base::did_you_mean(base::nearest_choice(text, choices)));
        }
        value = text;
      });
}

void Options::add_size(const std::string& names, std::uint64_t& bytes, const std::string& help) {
  // 0 stands for "no limit" or "not chosen", which the help text words itself.
  const std::string preset = bytes == 0 ? std::string() : to_option_text(bytes);
  impl_->add_value(
      names, with_default(help, preset),
      [&bytes](const std::string& name, const std::string& text) { bytes = parse_size(name, text); });
}

void Options::add_size(const std::string& names, std::optional<std::uint64_t>& bytes,
                       const std::string& help) {
  impl_->add_value(names, help, [&bytes](const std::string& name, const std::string& text) {
    bytes = parse_size(name, text);
  });
}

void Options::add_duration(const std::string& names, double& value, double unit_s, const std::string& help) {
  impl_->add_value(names, help, [&value, unit_s](const std::string& name, const std::string& text) {
    value = parse_duration(name, text, unit_s) / unit_s;
  });
}

void Options::add_duration(const std::string& names, std::optional<double>& value, double unit_s,
                           const std::string& help) {
  impl_->add_value(names, help, [&value, unit_s](const std::string& name, const std::string& text) {
    value = parse_duration(name, text, unit_s) / unit_s;
  });
}

void Options::add_number(const std::string& names, double& value, double low, double high,
                         const std::string& help) {
  impl_->add_value(names, with_default(help, format_number("%g", value)),
                   [&value, low, high](const std::string& name, const std::string& text) {
                     const auto number = parse_whole<double>(text);
                     // The condition is written so that it refuses NaN, which from_chars() accepts and for
                     // which every comparison is false.
                     if (!number || !(*number >= low && *number <= high)) {
                       throw CLI::ValidationError(name, "'" + text + "' is not a number from " +
                                                            format_number("%g", low) + " to " +
                                                            format_number("%g", high));
                     }
                     value = *number;
                   });
}

void Options::add_integer(const std::string& names, const std::string& preset, std::int64_t low,
                          std::uint64_t high, const std::string& help,
                          std::function<void(std::uint64_t)> assign) {
  impl_->add_value(names, with_default(help, preset),
                   [low, high, assign = std::move(assign)](const std::string& name, const std::string& text) {
                     const auto number = parse_integer(text, low, high);
                     if (!number) {
                       throw CLI::ValidationError(name, "'" + text + "' is not an integer from " +
                                                            std::to_string(low) + " to " +
                                                            std::to_string(high));
                     }
                     assign(*number);
                   });
}

void Options::add_seed(std::optional<std::uint64_t>& value, const std::string& help) {
  impl_->add_value("--seed N", help, [&value](const std::string& name, const std::string& text) {
    if (text == "-1") {
      value.reset();
      return;
    }
    value = parse_integer(text, 0, std::numeric_limits<std::uint64_t>::max());
    if (!value) {
      throw CLI::ValidationError(
          name, "'" + text + "' is not an integer from 0 to 18446744073709551615, nor -1 (random)");
    }
  });
}

void Options::add_model_memory(std::optional<std::uint64_t>& bytes) {
  add_size(
      "--memory SIZE", bytes,
      "Memory for the model; experts beyond it are read from disk when needed (default: all free memory)");
}

void Options::add_threads(unsigned& count) {
  count = base::available_threads();
  add_integer("--threads N", count, 1, kThreadsMax, "Number of threads");
}

void Options::add_kv(std::string& value) {
  add_choice("--kv TYPE", value, {"f32", "bf16", "q8"},
             "Type of the KV cache: f32, bf16 or q8 (default: f32 for bf16 models, else bf16)");
}

void Options::add_port(int& value) {
  add_integer("--port PORT", value, 0, kPortMax, "TCP and UDP port to listen on (default: 0, any free port)");
}

void Options::add_quant(std::string& value) {
  add_choice("--quant TYPE", value, {"q4", "q8", "bf16"},
             "Type of the weights if the model must be converted first: q4, q8 or bf16 (default: q4)");
}

bool Options::is_given(const std::string& name) const { return impl_->app.count(name) > 0; }

void Options::exclude(const std::string& option, const std::string& other) {
  impl_->app.get_option(option)->excludes(impl_->app.get_option(other));
}

void Options::require(const std::string& option, const std::string& other) {
  impl_->app.get_option(option)->needs(impl_->app.get_option(other));
}

void Options::add_note(const std::string& text) { impl_->notes.push_back(text); }

void Options::parse(const Invocation& invocation) {
  std::vector<std::string> reversed(invocation.arguments.rbegin(), invocation.arguments.rend());
  const auto refuse = [&](const std::string& message) {
    const std::string answer = impl_->answer_habit(invocation.arguments);
    throw base::Error(base::ErrorKind::usage,
                      (answer.empty() ? message : answer) + " (" + impl_->app.get_name() + " --help)");
  };
  try {
    impl_->app.parse(reversed);  // CLI11 takes arguments from the back
  } catch (const CLI::CallForHelp&) {
    // Help is for people: --json --help must not end without a word.
    invocation.console.configure(false, false);
    invocation.console.print_page(impl_->help_text());
    throw HelpPrinted();
    // The derived types come before ParseError, their base. CLI11 words them for the author of a program, so
    // they are worded anew.
  } catch (const CLI::ExtrasError&) {
    refuse(impl_->describe_extras(invocation.arguments));
  } catch (const CLI::ArgumentMismatch& error) {
    refuse(describe_mismatch(error.what()));
  } catch (const CLI::ExcludesError& error) {
    refuse(describe_exclusion(error.what()));
  } catch (const CLI::ParseError& error) {
    refuse(error.what());
  }
  // It is certain only now that --json was an option and not the value of another one. Until here the
  // settings of run_command_line() hold.
  invocation.console.configure(impl_->json, impl_->quiet);
}

}  // namespace sluice::cli
