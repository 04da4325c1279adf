#include "format/hub/architecture.h"

#include <algorithm>
#include <optional>
#include <system_error>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"

namespace sluice::format {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kConfigBytesMax = 1u << 20;

// mistral-inference writes this one for all of its models.
constexpr std::string_view kNativeType = "transformer";

const HubFamily* by_type(std::string_view type) {
  const auto found = std::ranges::find(hub_families(), type, &HubFamily::model_type);
  return found == hub_families().end() ? nullptr : &*found;
}

const HubFamily* by_name(std::string_view name) {
  const auto found = std::ranges::find(hub_families(), name, &HubFamily::architecture);
  return found == hub_families().end() ? nullptr : &*found;
}

bool supports_type(std::string_view type) { return type == kNativeType || by_type(type) != nullptr; }

/// The text of a member; nothing where it is missing or no text.
std::optional<std::string> text_of(const Json& json, std::string_view key) {
  const Json* value = json.find(key);
  if (value == nullptr || !value->is_string()) return std::nullopt;
  return value->as_string(key);
}

/// The first of "architectures", which is the class that transformers makes.
std::optional<std::string> first_architecture(const Json& config) {
  const Json* list = config.find("architectures");
  if (list == nullptr || !list->is_array()) return std::nullopt;
  const auto& names = list->as_array("architectures");
  if (names.empty() || !names.front().is_string()) return std::nullopt;
  return names.front().as_string("architectures");
}

}  // namespace

std::string supported_architectures() {
  std::string text;
  for (const HubFamily& family : hub_families())
    text += (text.empty() ? "" : ", ") + std::string(family.architecture) + " (model_type " +
            std::string(family.model_type) + ")";
  return text;
}

const HubFamily* find_family(const Json& config, std::string_view subject) {
  const auto name = first_architecture(config);
  const auto type = text_of(config, "model_type");
  const HubFamily* named = name ? by_name(*name) : nullptr;
  const HubFamily* typed = type ? by_type(*type) : nullptr;
  if (named == nullptr || typed == nullptr) return named != nullptr ? named : typed;
  // Those with one reader are one family: a Mixtral may call itself a Mistral.
  if (named->read != typed->read) {
    base::throw_malformed(subject, "names two architectures, " + *name + " in 'architectures' and " + *type +
                                       " in 'model_type'");
  }
  return typed;
}

void require_supported_architecture(const Json& config, std::string_view subject) {
  const auto name = first_architecture(config);
  const auto type = text_of(config, "model_type");
  if ((!name || by_name(*name) != nullptr) && (!type || supports_type(*type))) return;
  std::string found = name ? base::to_printable(name->substr(0, 100))
                           : "model_type '" + base::to_printable(type->substr(0, 100)) + "'";
  if (name && type) found += " (model_type " + base::to_printable(type->substr(0, 100)) + ")";
  base::throw_malformed(
      subject, "the architecture " + found + " is not supported; supported are " + supported_architectures());
}

void require_supported_architecture(const fs::path& folder) {
  const fs::path config = folder / "config.json";
  std::error_code absent;
  if (!fs::is_regular_file(config, absent) || fs::exists(folder / "params.json", absent)) return;
  std::optional<Json> json;
  try {
    json = parse_json(base::read_text_file(config, kConfigBytesMax), config.string());
  } catch (const base::Error&) {
    return;
  }
  require_supported_architecture(*json, config.string());
}

}  // namespace sluice::format
