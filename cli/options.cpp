#include "cli/options.h"

#include "base/error.h"
#include "base/parallel.h"
#include "base/text.h"
#include "cli/table.h"

namespace sluice::cli {
namespace {

constexpr unsigned kThreadsMax = 1024;

}  // namespace

Options::Options(const std::string& name, const std::string& summary, const std::string& example)
    : app_(summary, "sluice " + name) {
  app_.footer("\nExample:\n  " + example + "\n\nThe exit codes are listed by sluice --help.");
  app_.get_formatter()->column_width(34);
  app_.add_flag("--json", json_, "One JSON object a line on stdout, the last is the result or the error");
  app_.add_flag("--quiet,-q", quiet_, "Only what was asked for, and failures");
}

void Options::add_list(const std::string& names, std::vector<std::string>& values, const std::string& help) {
  app_.add_option(names, values, help + " (may be repeated)")
      ->expected(1)
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

void Options::add_bytes(const std::string& names, std::uint64_t& value, const std::string& help) {
  app_.add_option_function<std::string>(
          names,
          [&value, names](const std::string& text) {
            const auto bytes = base::parse_bytes(text);
            if (!bytes) throw CLI::ValidationError(names, "'" + text + "' is no size such as 64MiB or 10M");
            value = *bytes;
          },
          help)
      ->type_name("SIZE");
}

void Options::add_model_memory(std::optional<std::uint64_t>& value) {
  app_.add_option_function<std::string>(
          "--memory",
          [&value](const std::string& text) {
            value = base::parse_bytes(text);
            if (!value) throw CLI::ValidationError("--memory", "'" + text + "' is no size such as 20GiB");
          },
          "Memory that this may take; what does not fit is read when needed (default: all that is free)")
      ->type_name("SIZE");
}

void Options::add_number(const std::string& names, double& value, double low, double high,
                         const std::string& help) {
  const auto check = [&value, low, high](const std::string& text) -> std::string {
    if (!CLI::detail::lexical_cast(text, value) || !(value >= low && value <= high)) {
      return "'" + text + "' is no number from " + format_number("%g", low) + " to " +
             format_number("%g", high);
    }
    return {};
  };
  app_.add_option(names, value, help)->check(check)->type_name("NUMBER");
}

void Options::add_threads(unsigned& value) {
  value = base::available_threads();
  app_.add_option("--threads", value, "Worker threads (default: " + std::to_string(value) + ")")
      ->check(CLI::Range(1U, kThreadsMax))
      ->type_name("N");
}

void Options::add_kv(std::string& value) {
  app_.add_option("--kv", value,
                  "Keeps keys and values as f32, bf16 or q8 (default: f32 for bf16 models, else bf16)")
      ->check(CLI::IsMember({"f32", "bf16", "q8"}))
      ->type_name("TYPE");
}

void Options::add_port(int& value) {
  app_.add_option("--port", value, "TCP and UDP port to listen on; 0 takes any free one")
      ->check(CLI::Range(0, 65535))
      ->type_name("PORT");
}

void Options::add_quant(std::string& value, const std::string& help) {
  app_.add_option("--quant", value, help)->check(CLI::IsMember({"q4", "q8", "bf16"}))->type_name("TYPE");
}

void Options::parse(const Invocation& invocation) {
  std::vector<std::string> reversed(invocation.arguments.rbegin(), invocation.arguments.rend());
  try {
    app_.parse(reversed);  // takes them from the back
  } catch (const CLI::CallForHelp&) {
    invocation.console.configure(false, false);
    invocation.console.write(app_.help());
    throw HelpPrinted();
  } catch (const CLI::ParseError& error) {
    throw base::Error(base::ErrorKind::usage,
                      app_.get_name() + ": " + error.what() + " (" + app_.get_name() + " --help)");
  }
  invocation.console.configure(json_, quiet_);
}

}  // namespace sluice::cli
