#include "text/hugging_face_pipeline.h"

#include <vector>

#include "base/error.h"
#include "text/in_quotes.h"

namespace sluice::text {
namespace {

using format::Json;
using format::place_of;

// A pattern is shown whole in the message that refuses it; the longest known one has 312 bytes.
constexpr std::size_t kPatternShownBytesMax = 600;

[[noreturn]] void refuse_type(const std::string& type, std::string_view place) {
  base::throw_malformed(place, "the type " + in_quotes(type) + " is not supported");
}

const std::string& type_of(const Json& part, std::string_view place) {
  return part.at("type", place).as_string(place_of(place, "type"));
}

/// The parts of a Sequence, in order and also out of a Sequence in it; one part alone is a sequence of one,
/// and null one of none.
std::vector<const Json*> parts_of(const Json* part, std::string_view list_key, std::string_view place) {
  if (part == nullptr || part->is_null()) return {};
  if (type_of(*part, place) != "Sequence") return {part};
  format::require_known_keys(*part, {"type", list_key}, place);
  std::vector<const Json*> parts;
  for (const Json& item : part->at(list_key, place).as_array(place_of(place, list_key)))
    for (const Json* each : parts_of(&item, list_key, place)) parts.push_back(each);
  return parts;
}

bool flag(const Json& object, std::string_view key, bool when_absent, std::string_view place) {
  const Json* value = object.find(key);
  return value == nullptr || value->is_null() ? when_absent : value->as_bool(place_of(place, key));
}

class Reader {
 public:
  Reader(const Json& file, const Json& config, std::string_view subject)
      : file_(file), config_(config), subject_(subject) {}

  Pipeline read() {
    read_normalizer(place_of(subject_, "normalizer"));
    read_pre_tokenizer(place_of(subject_, "pre_tokenizer"));
    read_post_processor(place_of(subject_, "post_processor"));
    read_decoder(place_of(subject_, "decoder"));
    return std::move(pipeline_);
  }

 private:
  void read_normalizer(const std::string& place) {
    for (const Json* part : parts_of(file_.find("normalizer"), "normalizers", place)) {
      const std::string& type = type_of(*part, place);
      last_replace_ = {};
      if (type == "NFC") {
        format::require_known_keys(*part, {"type"}, place);
        pipeline_.normalizer.add_nfc();
      } else if (type == "Replace") {
        last_replace_ = read_replace(*part, place);
        pipeline_.normalizer.add_replace(last_replace_.first, last_replace_.second);
      } else if (type == "Prepend") {
        format::require_known_keys(*part, {"type", "prepend"}, place);
        pipeline_.normalizer.add_prepend(part->at("prepend", place).as_string(place_of(place, "prepend")));
      } else {
        refuse_type(type, place);
      }
    }
  }

  static std::pair<std::string, std::string> read_replace(const Json& part, const std::string& place) {
    format::require_known_keys(part, {"type", "pattern", "content"}, place);
    const std::string pattern_place = place_of(place, "pattern");
    const Json& pattern = part.at("pattern", place);
    format::require_known_keys(pattern, {"String"}, pattern_place);
    const std::string& from = pattern.at("String", pattern_place).as_string(pattern_place);
    if (from.empty()) base::throw_malformed(pattern_place, "is empty");
    return {from, part.at("content", place).as_string(place_of(place, "content"))};
  }

  void read_pre_tokenizer(const std::string& place) {
    const Json* whole = file_.find("pre_tokenizer");
    for (const Json* part : parts_of(whole, "pretokenizers", place)) {
      const std::string& type = type_of(*part, place);
      // After ByteLevel the pieces are no text any more.
      if (pipeline_.is_byte_level)
        base::throw_malformed(place, in_quotes(type) + " after 'ByteLevel' is not supported");
      if (type == "Split") {
        read_split(*part, place);
      } else if (type == "Digits") {
        format::require_known_keys(*part, {"type", "individual_digits"}, place);
        pipeline_.pre_tokenizer.add_split(digits_split(flag(*part, "individual_digits", false, place)));
      } else if (type == "ByteLevel") {
        read_byte_level(*part, part == whole, place);
      } else {
        refuse_type(type, place);
      }
    }
  }

  void read_byte_level(const Json& part, bool is_alone, const std::string& place) {
    format::require_known_keys(part, {"type", "add_prefix_space", "trim_offsets", "use_regex"}, place);
    pipeline_.is_byte_level = true;
    bool prefix_space = flag(part, "add_prefix_space", true, place);
    // transformers lets its own setting win, but looks only at a pre-tokenizer that is not in a sequence.
    if (is_alone)
      prefix_space =
          flag(config_, "add_prefix_space", prefix_space, std::string(subject_) + ": tokenizer_config.json");
    if (prefix_space) pipeline_.pre_tokenizer.add_prefix_space();
    if (flag(part, "use_regex", true, place)) pipeline_.pre_tokenizer.add_split(byte_level_split());
  }

  void read_split(const Json& part, const std::string& place) {
    format::require_known_keys(part, {"type", "pattern", "behavior", "invert"}, place);
    const std::string pattern_place = place_of(place, "pattern");
    const Json& pattern = part.at("pattern", place);
    format::require_known_keys(pattern, {"Regex", "String"}, pattern_place);
    if (const Json* text = pattern.find("String")) {
      // Gemma's: spaces, of which its normalizer has left none.
      const std::string& fixed = text->as_string(pattern_place);
      if (!fixed.empty() && fixed == last_replace_.first &&
          last_replace_.second.find(fixed) == std::string::npos)
        return;
      base::throw_malformed(pattern_place,
                            "a split at the fixed text " + in_quotes(fixed) + " is not supported");
    }
    const std::string& expression = pattern.at("Regex", pattern_place).as_string(pattern_place);
    const SplitFinder finder = find_split(expression);
    if (finder == nullptr)
      base::throw_malformed(pattern_place,
                            "the expression " +
                                in_quotes(spelled_in_one_line(expression), kPatternShownBytesMax) +
                                " is none of those that are supported");
    check_behavior(part, expression, place);
    pipeline_.pre_tokenizer.add_split(finder);
  }

  /// Some files remove what lies between the matches ("Removed", inverted), where nothing does.
  static void check_behavior(const Json& part, std::string_view expression, const std::string& place) {
    const std::string& behavior = part.at("behavior", place).as_string(place_of(place, "behavior"));
    const bool invert = flag(part, "invert", false, place);
    if (behavior == "Isolated" && !invert) return;
    if (behavior == "Removed" && invert && is_partition(expression)) return;
    base::throw_malformed(place_of(place, "behavior"),
                          "expected 'Isolated', found " + in_quotes(behavior) + (invert ? ", inverted" : ""));
  }

  void read_post_processor(const std::string& place) {
    for (const Json* part : parts_of(file_.find("post_processor"), "processors", place)) {
      const std::string& type = type_of(*part, place);
      if (type == "TemplateProcessing") {
        read_template(*part, place);
      } else if (type != "ByteLevel") {  // which changes offsets alone
        refuse_type(type, place);
      }
    }
  }

  // {"single": [{"SpecialToken": {"id": "<bos>", ..}}, {"Sequence": {"id": "A", ..}}], "pair": .., ..}
  void read_template(const Json& part, const std::string& place) {
    format::require_known_keys(part, {"type", "single", "pair", "special_tokens"}, place);
    const std::string single_place = place_of(place, "single");
    const Json::Array& single = part.at("single", place).as_array(single_place);
    const bool has_front = single.size() == 2;
    if (single.empty() || single.size() > 2 || single.back().find("Sequence") == nullptr ||
        (has_front && single.front().find("SpecialToken") == nullptr))
      base::throw_malformed(single_place, "expected a text with at most one token, in front of it");
    if (!has_front) return;
    const std::string& name =
        single.front().at("SpecialToken", single_place).at("id", single_place).as_string(single_place);
    if (!pipeline_.token_in_front.empty()) base::throw_malformed(single_place, "is the second template");
    const std::string tokens_place = place_of(place, "special_tokens");
    const Json& token = part.at("special_tokens", place).at(name, tokens_place);
    if (token.at("ids", tokens_place).as_array(tokens_place).size() != 1 || name.empty())
      base::throw_malformed(tokens_place, "expected one id for " + in_quotes(name));
    pipeline_.token_in_front = name;
    pipeline_.id_in_front = token.at("ids", tokens_place).as_array(tokens_place)[0].as_uint(tokens_place);
  }

  void read_decoder(const std::string& place) {
    const auto parts = parts_of(file_.find("decoder"), "decoders", place);
    std::string types;
    for (const Json* part : parts) types += (types.empty() ? "" : ", ") + type_of(*part, place);
    const std::string expected = pipeline_.is_byte_level ? "ByteLevel" : "Replace, ByteFallback, Fuse";
    if (types != expected)
      base::throw_malformed(place, "expected the type " + expected + ", found " + in_quotes(types));
    if (!pipeline_.is_byte_level) pipeline_.shown_as = read_replace(*parts.front(), place);
  }

  const Json& file_;
  const Json& config_;
  std::string_view subject_;
  Pipeline pipeline_;
  std::pair<std::string, std::string> last_replace_;  // the normalizer's last step, if it is one
};

}  // namespace

Pipeline read_pipeline(const Json& file, const Json& config, std::string_view subject) {
  return Reader(file, config, subject).read();
}

}  // namespace sluice::text
