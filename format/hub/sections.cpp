#include "format/hub/sections.h"

#include "base/error.h"

namespace sluice::format {
namespace {

struct FoundTokenizer {
  TokenizerKind kind = TokenizerKind::sentencepiece;
  const ContainerSection* section = nullptr;
};

FoundTokenizer find_tokenizer_of(const ContainerReader& container) {
  FoundTokenizer found;
  for (const TokenizerKind kind : kTokenizerKinds) {
    const ContainerSection* section = container.find_section(section_name(kind));
    if (section == nullptr) continue;
    if (found.section != nullptr) {
      base::throw_malformed(container.path().string(),
                            "has two tokenizers, '" + found.section->name + "' and '" + section->name + "'");
    }
    found = {kind, section};
  }
  if (found.section == nullptr) base::throw_malformed(container.path().string(), "has no tokenizer");
  return found;
}

}  // namespace

std::string_view section_name(TokenizerKind kind) {
  return kind == TokenizerKind::sentencepiece ? std::string_view("tokenizer") : file_name(kind);
}

std::vector<ReleasedSection> released_sections(const ReleasedModel& release) {
  std::vector<ReleasedSection> sections;
  sections.push_back({section_name(release.tokenizer_kind), std::string(base::as_text(release.tokenizer))});
  sections.push_back({kParamsSection, release.params_text});
  const auto add = [&](std::string_view name, std::string content) {
    if (!content.empty()) sections.push_back({name, std::move(content)});
  };
  if (!release.tokens.empty()) add(kTokenFactsSection, to_text(release.tokens));
  add(kTokenizerConfigSection, release.chat.tokenizer_config);
  add(kGenerationConfigSection, release.chat.generation_config);
  add(kChatTemplateSection, release.chat.chat_template);
  return sections;
}

TokenizerParts tokenizer_parts(const ReleasedModel& release) {
  return {release.tokenizer_kind, release.tokenizer, release.chat.tokenizer_config, release.tokens};
}

TokenizerParts tokenizer_parts(const ContainerReader& container) {
  const FoundTokenizer found = find_tokenizer_of(container);
  TokenizerParts parts{.kind = found.kind,
                       .model = base::as_bytes(read_section(container, found.section->name)),
                       .config = read_section(container, kTokenizerConfigSection),
                       .facts = {}};
  if (const std::string_view facts = read_section(container, kTokenFactsSection); !facts.empty()) {
    parts.facts = parse_token_facts(facts, container.description().vocabulary,
                                    container.path().string() + ": " + std::string(kTokenFactsSection));
  }
  return parts;
}

const ContainerSection& find_tokenizer_section(const ContainerReader& container) {
  return *find_tokenizer_of(container).section;
}

std::string_view read_section(const ContainerReader& container, std::string_view name) {
  const ContainerSection* section = container.find_section(name);
  if (section == nullptr) return {};
  if (!container.matches_digest(*section)) {
    throw base::Error(base::ErrorKind::verification, container.path().string() + ": section '" +
                                                         std::string(name) + "' does not match its SHA-256");
  }
  return base::as_text(container.bytes(*section));
}

}  // namespace sluice::format
