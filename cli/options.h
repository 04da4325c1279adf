#pragma once
// The options of one command. A command declares each with the variable that takes its value; parse() fills
// the variables in, and --help prints the declarations in groups. CLI11 does the parsing, in options.cpp
// alone: its headers take seconds to compile.

#include <concepts>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/commands.h"

namespace sluice::cli {

/// --help has been printed, so there is nothing left to do.
class HelpPrinted final : public std::exception {};

/// Names are written as --help shows them, with the name of the value last: "-o,--output FILE". An option
/// that is not given leaves its variable as it is. Unless `help` tells a default itself ("(default: ...)"),
/// --help adds the value that the variable has when the option is declared.
class Options final {
 public:
  /// `example` may have several lines, each a command of at most 78 characters.
  Options(const std::string& command, const std::string& summary, const std::string& example);
  ~Options();
  Options(const Options&) = delete;
  Options& operator=(const Options&) = delete;

  /// The heading under which --help lists what is declared from here on ("Options" until the first call).
  void group(const std::string& title);

  /// An argument without a name, by its position.
  void add_argument(const std::string& name, std::string& value, const std::string& help);
  void add_optional_argument(const std::string& name, std::string& value, const std::string& help);

  /// MODEL, of the commands that run one.
  void add_model(std::string& value);

  void add_flag(const std::string& names, bool& value, const std::string& help);
  void add_text(const std::string& names, std::string& value, const std::string& help);
  void add_text(const std::string& names, std::optional<std::string>& value, const std::string& help);
  /// May be given several times, with one value each time.
  void add_list(const std::string& names, std::vector<std::string>& values, const std::string& help);
  void add_choice(const std::string& names, std::string& value, const std::vector<std::string>& choices,
                  const std::string& help);
  /// A size or a rate such as 64MiB or 10M/s. A default of 0 is not shown.
  void add_size(const std::string& names, std::uint64_t& bytes, const std::string& help);
  void add_size(const std::string& names, std::optional<std::uint64_t>& bytes, const std::string& help);
  /// A duration such as 90s, 5m or 1h30m. `value` counts in units of `unit_s` seconds, and so does a number
  /// without a unit. Defaults are told by `help`.
  void add_duration(const std::string& names, double& value, double unit_s, const std::string& help);
  void add_duration(const std::string& names, std::optional<double>& value, double unit_s,
                    const std::string& help);
  /// A number in [low, high]. NaN lies in no range.
  void add_number(const std::string& names, double& value, double low, double high, const std::string& help);
  /// An integer in [low, high]; T must hold the whole range.
  template <std::integral T>
  void add_integer(const std::string& names, T& value, std::int64_t low, std::uint64_t high,
                   const std::string& help) {
    add_integer(names, std::to_string(value), low, high, help,
                [&value](std::uint64_t given) { value = static_cast<T>(given); });
  }
  template <std::integral T>
  void add_integer(const std::string& names, std::optional<T>& value, std::int64_t low, std::uint64_t high,
                   const std::string& help) {
    add_integer(names, {}, low, high, help, [&value](std::uint64_t given) { value = static_cast<T>(given); });
  }

  /// For options of which some values have a meaning of their own. `assign` gets a negative number as its
  /// two's complement; an empty `preset` is not shown.
  void add_integer(const std::string& names, const std::string& preset, std::int64_t low, std::uint64_t high,
                   const std::string& help, std::function<void(std::uint64_t)> assign);

  /// --seed, an integer of 64 bits. -1 stands for no seed, as in llama.cpp.
  void add_seed(std::optional<std::uint64_t>& value, const std::string& help);
  /// --memory of the commands that run a model, see runtime::SessionOptions.
  void add_model_memory(std::optional<std::uint64_t>& bytes);
  /// --threads; the default is all that this process may use.
  void add_threads(unsigned& count);
  /// --kv f32|bf16|q8; empty unless given.
  void add_kv(std::string& value);
  /// --port, 0 for any.
  void add_port(int& value);
  /// --quant q4|q8|bf16, for a model that has to be converted first.
  void add_quant(std::string& value);

  /// `option` cannot be given together with `other`.
  void exclude(const std::string& option, const std::string& other);
  /// `option` cannot be given without `other`.
  void require(const std::string& option, const std::string& other);

  /// A paragraph of --help, after the example.
  void add_note(const std::string& text);

  /// Error{usage} for arguments that do not fit; HelpPrinted after --help.
  void parse(const Invocation& invocation);
  /// True when the option was given. Only after parse().
  [[nodiscard]] bool is_given(const std::string& name) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::cli
