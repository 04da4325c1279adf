#include "cli/chat_options.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "cli/table.h"
#include "format/hub/chat_files.h"

namespace sluice::cli {
namespace {

using format::Json;

/// A value that is no JSON is a text: nobody wants to quote `low` twice in a shell.
Json parse_value(const std::string& text, const std::string& subject) {
  try {
    return format::parse_json(text, subject);
  } catch (const base::Error& error) {
    if (error.kind() != base::ErrorKind::malformed) throw;
    return Json(text);
  }
}

}  // namespace

Json parse_chat_variables(std::span<const std::string> entries) {
  Json variables = Json::object();
  for (const std::string& entry : entries) {
    const std::size_t at = entry.find('=');
    if (at == std::string::npos || at == 0)
      throw base::Error(base::ErrorKind::usage, "--chat-var " + entry + ": expected NAME=VALUE");
    const std::string name = entry.substr(0, at);
    variables.set(name, parse_value(entry.substr(at + 1), "--chat-var " + name));
  }
  return variables;
}

void use_recommended_sampling(const runtime::Model& model, RunOptions& values, Console& console) {
  if (values.sampling_given) return;
  const format::GenerationDefaults defaults = model.generation_defaults();
  std::string told;
  const auto take = [&](const char* name, const auto& recommended, auto& value) {
    if (!recommended) return;
    value = *recommended;
    told += (told.empty() ? "" : ", ") + std::string(name) + " " + Json(*recommended).dump();
  };
  take("temperature", defaults.temperature, values.sampling.temperature);
  take("top-p", defaults.top_p, values.sampling.top_p);
  take("top-k", defaults.top_k, values.sampling.top_k);
  take("min-p", defaults.min_p, values.sampling.min_p);
  if (!told.empty()) console.note("sampling as the model's release recommends: " + told);
  if (defaults.repetition_penalty.value_or(1) != 1) {
    console.note("the release's repetition_penalty " + Json(*defaults.repetition_penalty).dump() +
                 " is not used; --repeat-penalty sets one");
  }
}

}  // namespace sluice::cli
