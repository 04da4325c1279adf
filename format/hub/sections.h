#pragma once
// The sections of a container: what it keeps of a release beside the tensors, and the tokenizer read back
// from them.
//
//   tokenizer | tokenizer.json | tekken.json   the tokenizer as released, always the first section
//   params.json                                params.json or config.json as released
//   tokens.json                                TokenFacts, where they say something
//   tokenizer_config.json, generation_config.json   as released, where the release has them
//   chat_template.jinja                        the template's text, wherever the release keeps it
//
// A section exists exactly when the release has its content, so the root of a container that was made without
// these files is what it was before they were kept (docs/decisions/0032-sections-of-the-release.md).

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "format/container_reader.h"
#include "format/hub/token_facts.h"
#include "format/hub/tokenizer_file.h"
#include "format/released_model.h"

namespace sluice::format {

constexpr std::string_view kParamsSection = "params.json";
constexpr std::string_view kTokenizerConfigSection = "tokenizer_config.json";
constexpr std::string_view kGenerationConfigSection = "generation_config.json";
constexpr std::string_view kChatTemplateSection = "chat_template.jinja";

/// "tokenizer" for a tokenizer.model, as containers have called it from the start; else the file's name.
[[nodiscard]] std::string_view section_name(TokenizerKind kind);

struct ReleasedSection {
  std::string_view name;
  std::string content;
};

/// All sections of a container of this release, in the order in which they are written.
[[nodiscard]] std::vector<ReleasedSection> released_sections(const ReleasedModel& release);

/// The parts that a tokenizer is made of. The views are valid as long as what they were taken from.
struct TokenizerParts {
  TokenizerKind kind = TokenizerKind::sentencepiece;
  base::Bytes model;
  std::string_view config;  ///< tokenizer_config.json; empty without one
  TokenFacts facts;
};

[[nodiscard]] TokenizerParts tokenizer_parts(const ReleasedModel& release);
/// Error{malformed} for a container that has no tokenizer, or several; Error{verification} for a section that
/// does not match its digest.
[[nodiscard]] TokenizerParts tokenizer_parts(const ContainerReader& container);

/// The section of the container's tokenizer, whatever its kind. Error{malformed} for none, or for several.
[[nodiscard]] const ContainerSection& find_tokenizer_section(const ContainerReader& container);

/// The content of a section; empty without one. Error{verification} when it does not match its digest.
[[nodiscard]] std::string_view read_section(const ContainerReader& container, std::string_view name);

}  // namespace sluice::format
