#include "format/hub/tokenizer_file.h"

#include <algorithm>
#include <system_error>

#include "base/error.h"
#include "format/checkpoint_kind.h"

namespace sluice::format {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kName = "tokenizer.model";

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

}  // namespace

fs::path find_tokenizer(const fs::path& folder) {
  if (fs::exists(folder / kName)) return folder / kName;
  const auto versions = list_versions(folder);
  if (versions.size() == 1) return versions.front();
  std::string cause = std::string(kName) + " is missing";
  if (versions.size() > 1) {
    cause += ", and '" + versions[0].filename().string() + "' and '" + versions[1].filename().string() +
             "' are both there: copy the one of this model to " + std::string(kName);
  } else if (fs::exists(folder / "tekken.json")) {
    cause += ": tekken.json, which is there, is a tokenizer of another kind, which is not supported";
  } else if (fs::exists(folder / "tokenizer.json")) {
    cause +=
        ": tokenizer.json, which is there, is not read; the file is part of the model's release (in the "
        "repository on Hugging Face, or in the torrent) and goes beside it";
  }
  base::throw_malformed(folder.string(), cause);
}

void refuse_other_files(base::Bytes bytes, std::string_view subject) {
  constexpr std::string_view kExpected = ", expected a SentencePiece model";
  const auto refuse = [&](const std::string& what) { base::throw_malformed(subject, what); };
  if (bytes.empty()) refuse("is empty" + std::string(kExpected));
  if (std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; }))
    refuse("holds " + std::to_string(bytes.size()) + " zero bytes, as an unfinished download does" +
           std::string(kExpected));
  const std::string_view text = base::as_text(bytes);
  if (text.front() == '{') refuse("is a JSON file" + std::string(kExpected));
  if (const std::string what = describe_lookalike(text, "tokenizer"); !what.empty()) refuse(what);
}

}  // namespace sluice::format
