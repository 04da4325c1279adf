#pragma once
// One command's options: what all commands share (--json, --quiet, --help with an example, sizes like 64MiB)
// over CLI11, whose exceptions end here.

#include <CLI/CLI.hpp>

#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/commands.h"

namespace sluice::cli {

/// --help has been answered: nothing more is to be done.
class HelpPrinted final : public std::exception {};

class Options final {
 public:
  Options(const std::string& name, const std::string& summary, const std::string& example);

  /// For what CLI11 offers: add_option, add_flag.
  [[nodiscard]] CLI::App& app() { return app_; }

  /// An option that may be given several times, one value each.
  void add_list(const std::string& names, std::vector<std::string>& values, const std::string& help);
  /// A size or rate such as 64MiB, 10M/s.
  void add_bytes(const std::string& names, std::uint64_t& value, const std::string& help);
  /// A number in [low, high]; NaN is in no range.
  void add_number(const std::string& names, double& value, double low, double high, const std::string& help);
  /// --memory for what runs models: see runtime::SessionOptions. Nothing unless given.
  void add_model_memory(std::optional<std::uint64_t>& value);
  /// --threads, by default all that this process may use.
  void add_threads(unsigned& value);
  /// --kv f32|bf16|q8; empty unless given.
  void add_kv(std::string& value);
  /// A port, 0 for any.
  void add_port(int& value);
  /// --quant bf16|q8|q4.
  void add_quant(std::string& value, const std::string& help);

  /// Error{usage} for what does not fit; HelpPrinted after --help.
  void parse(const Invocation& invocation);

 private:
  CLI::App app_;
  bool json_ = false;
  bool quiet_ = false;
};

}  // namespace sluice::cli
