#include "format/hub/tokenizer_file.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <system_error>

#include "base/error.h"
#include "base/file.h"
#include "base/invariant.h"
#include "format/checkpoint_kind.h"

namespace sluice::format {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kName = "tokenizer.model";
constexpr std::uint64_t kTokenizerBytesMax = 64u << 20;

/// tokenizer.model.v3 and its like: the versions of mistral-common. Version 7 and its like with "m" for
/// images are SentencePiece models too.
std::vector<fs::path> list_versions(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code unreadable;
  for (auto entry = fs::directory_iterator(folder, unreadable);
       !unreadable && entry != fs::directory_iterator(); entry.increment(unreadable)) {
    const std::string name = entry->path().filename().string();
    std::error_code broken;
    if (name.starts_with(std::string(kName) + ".v") && entry->is_regular_file(broken))
      found.push_back(entry->path());
  }
  std::ranges::sort(found);
  return found;
}

/// Nothing when there is neither tokenizer.model nor any version of it.
std::optional<fs::path> find_sentencepiece(const fs::path& folder) {
  if (fs::exists(folder / kName)) return folder / kName;
  const auto versions = list_versions(folder);
  if (versions.size() > 1) {
    base::throw_malformed(folder.string(),
                          std::string(kName) + " is missing, and '" + versions[0].filename().string() +
                              "' and '" + versions[1].filename().string() +
                              "' are both there: copy the one of this model to " + std::string(kName));
  }
  return versions.empty() ? std::nullopt : std::optional(versions.front());
}

std::optional<fs::path> find_file(const fs::path& folder, TokenizerKind kind) {
  if (kind == TokenizerKind::sentencepiece) return find_sentencepiece(folder);
  const fs::path path = folder / file_name(kind);
  return fs::exists(path) ? std::optional(path) : std::nullopt;
}

}  // namespace

std::string_view file_name(TokenizerKind kind) {
  switch (kind) {
    case TokenizerKind::sentencepiece: return kName;
    case TokenizerKind::hugging_face: return "tokenizer.json";
    case TokenizerKind::tekken: return "tekken.json";
  }
  INVARIANT(!"a TokenizerKind without file");
}

TokenizerFile find_tokenizer(const fs::path& folder, bool native) {
  using enum TokenizerKind;
  const auto order = native ? std::array{tekken, sentencepiece, hugging_face}
                            : std::array{sentencepiece, hugging_face, tekken};
  for (const TokenizerKind kind : order)
    if (const auto path = find_file(folder, kind)) return {kind, *path};
  // Kimi K2. Its expression has differences of classes, and its file has no merges.
  if (fs::exists(folder / "tiktoken.model")) {
    base::throw_malformed((folder / "tiktoken.model").string(),
                          "is a tokenizer of tiktoken, which is not supported: a tokenizer.json of the same "
                          "model goes beside the weights instead");
  }
  base::throw_malformed(
      folder.string(),
      "tokenizer.model is missing, and neither tokenizer.json nor tekken.json is there: the "
      "file is part of the model's release (in the repository on Hugging Face, or in the "
      "torrent) and goes beside the weights");
}

std::vector<std::byte> read_tokenizer_file(const TokenizerFile& file) {
  std::vector<std::byte> bytes = base::read_file(file.path, kTokenizerBytesMax);
  refuse_other_files(bytes, file.kind, file.path.string());
  return bytes;
}

void refuse_other_files(base::Bytes bytes, TokenizerKind kind, std::string_view subject) {
  const bool expects_json = kind != TokenizerKind::sentencepiece;
  const std::string expected =
      expects_json ? ", expected a tokenizer in JSON" : ", expected a SentencePiece model";
  const auto refuse = [&](const std::string& what) { base::throw_malformed(subject, what); };
  if (bytes.empty()) refuse("is empty" + expected);
  if (std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; }))
    refuse("holds " + std::to_string(bytes.size()) + " zero bytes, as an unfinished download does" +
           expected);
  const std::string_view text = base::as_text(bytes);
  if (const std::string what = describe_lookalike(text, "tokenizer"); !what.empty()) refuse(what);
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  const bool is_json = first != std::string_view::npos && text[first] == '{';
  if (is_json && !expects_json) refuse("is a JSON file" + expected);
  if (!is_json && expects_json) refuse("is no JSON object" + expected);
}

}  // namespace sluice::format
