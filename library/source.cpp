// Names are looked up without the network. Paths come before names, so that files of the user are never
// hidden by a release or a model.

#include "library/source.h"

#include <algorithm>
#include <utility>

#include "base/ascii.h"
#include "base/error.h"
#include "base/file.h"
#include "base/spelling.h"
#include "base/text.h"
#include "fetch/fetch.h"
#include "format/hub/cache_folder.h"
#include "library/references.h"
#include "library/release_path.h"
#include "library/store_items.h"

namespace sluice::library {
namespace {

namespace fs = std::filesystem;

std::vector<StoredModel> stored_models(const Folders& folders) {
  return folders.store.empty() ? std::vector<StoredModel>() : Store(folders.store).list();
}

/// The link in a text file: what people save from a chat or a web page. Nothing for files of other kinds.
std::optional<std::string> read_link_file(const fs::path& path) {
  constexpr std::uint64_t kLinkFileBytesMax = 64u << 10;
  std::error_code unreadable;
  if (!fs::is_regular_file(path, unreadable) || fs::file_size(path, unreadable) > kLinkFileBytesMax)
    return std::nullopt;
  const std::string content = base::read_text_file(path, kLinkFileBytesMax);
  return base::is_utf8(content) ? fetch::find_link(content, path.string()) : std::nullopt;
}

/// A link, a URL or an existing path. Paths come before names and info-hashes, so that files of the user are
/// never hidden by them.
std::optional<Source> find_plain(const std::string& given) {
  std::error_code unreadable;
  std::string text = fs::exists(given, unreadable) ? given : fetch::clean_link(given);
  if (auto link = read_link_file(text)) text = std::move(*link);
  if (base::starts_with_ignoring_case(text, "magnet:")) return Source{Source::Kind::magnet, text, {}, {}};
  if (base::starts_with_ignoring_case(text, "http://") || base::starts_with_ignoring_case(text, "https://"))
    return Source{Source::Kind::url, text, {}, {}};
  if (fs::exists(text, unreadable)) return Source{Source::Kind::path, text, {}, {}};
  return std::nullopt;
}

[[noreturn]] void throw_unknown(const std::string& text, const Folders& folders, const std::string& kinds) {
  throw base::Error(base::ErrorKind::usage, "'" + text + "' is neither " + kinds +
                                                suggest_names(text, folders) +
                                                " (sluice releases and sluice models list the names)");
}

[[noreturn]] void throw_ambiguous(const std::string& text, const std::vector<StoredModel>& models) {
  std::string names;
  for (const auto& model : models) names += (names.empty() ? "" : ", ") + model.full_name();
  throw base::Error(base::ErrorKind::usage, "'" + text + "' means several models: " + names);
}

/// The identity that prepare_model() gives to models of this release.
bool is_made_of(const StoredModel& model, const CatalogEntry& release) {
  const auto& manifest = release.manifest;
  std::error_code absent;
  return (manifest.infohash_v1 && model.source.identity == base::to_hex(*manifest.infohash_v1)) ||
         (manifest.infohash_v2 && model.source.identity == base::to_hex(*manifest.infohash_v2)) ||
         (release.embedded_folder &&
          model.source.identity == fs::weakly_canonical(*release.embedded_folder, absent).string());
}

/// The one model that the name means, or nothing.
std::optional<StoredModel> choose_model(const std::string& text, std::vector<StoredModel> models,
                                        const std::string& quant, const std::string& default_quant) {
  const auto of_quant = [&](const std::string& wanted) {
    std::vector<StoredModel> matching;
    for (const auto& model : models)
      if (model.source.quant == wanted) matching.push_back(model);
    return matching;
  };
  if (!quant.empty()) {
    models = of_quant(quant);
  } else if (models.size() > 1) {
    if (auto preferred = of_quant(default_quant); !preferred.empty()) models = std::move(preferred);
  }
  if (models.size() > 1) throw_ambiguous(text, models);
  return models.empty() ? std::nullopt : std::optional(models.front());
}

/// The files of a known release on this machine; nothing when it was not fetched.
std::optional<fs::path> find_release_files(const CatalogEntry& release, const Folders& folders) {
  if (release.embedded_folder) return release.embedded_folder;
  if (folders.store.empty()) return std::nullopt;
  const Store store(folders.store);
  const auto& manifest = release.manifest;
  std::optional<ReleasePlace> place;
  if (manifest.infohash_v1) place = store.find_place(base::to_hex(*manifest.infohash_v1));
  if (!place && manifest.infohash_v2) place = store.find_place(base::to_hex(*manifest.infohash_v2));
  return place ? std::optional(place->path()) : std::nullopt;
}

/// A release that was fetched by link or .torrent, by its name or info-hash.
std::optional<ReleasePlace> find_fetched(const std::string& text, const Context& context) {
  if (context.folders.store.empty()) return std::nullopt;
  std::error_code absent;
  for (auto& place : Store(context.folders.store).list_places(context.observer)) {
    const bool named = text == place.name || text == place.torrent_name || text == place.infohash_v1 ||
                       text == place.infohash_v2;
    if (named && fs::exists(place.path(), absent)) return std::move(place);
  }
  return std::nullopt;
}

}  // namespace

std::string suggest_names(const std::string& text, const Folders& folders) {
  std::vector<std::string> names = list_release_names(folders);
  for (const auto& model : stored_models(folders)) {
    names.push_back(model.name());
    names.push_back(model.name_with_quant());
  }
  return base::did_you_mean(base::nearest_names(text, names));
}

Source find_source(const std::string& text, const Folders& folders) {
  if (auto plain = find_plain(text)) return std::move(*plain);
  if (auto release = find_release(text, folders))
    return {Source::Kind::release, text, std::move(release), {}};
  throw_unknown(text, folders, "a magnet link or URL nor an existing path nor a known release");
}

Source find_model_source(const std::string& text, const std::string& quant, const std::string& default_quant,
                         const Folders& folders) {
  if (auto plain = find_plain(text)) return std::move(*plain);
  auto release = find_release(text, folders);
  auto models = find_models(stored_models(folders), text);
  // Of a known release, prepare_model() finds the model itself, and makes it anew when the release has
  // changed.
  const bool of_release =
      release && (models.empty() || std::ranges::any_of(models, [&](const StoredModel& model) {
                    return is_made_of(model, *release);
                  }));
  if (!of_release) {
    if (const auto model = choose_model(text, models, quant, default_quant))
      return {Source::Kind::model, text, {}, model->path};
  }
  if (release) return {Source::Kind::release, text, std::move(release), {}};
  if (!models.empty()) {
    std::string known;
    for (const auto& model : models) known += (known.empty() ? "" : ", ") + model.source.quant;
    throw base::Error(base::ErrorKind::usage, text + ": the model store has this model as " + known +
                                                  " and not as " + quant +
                                                  "; name the release to convert it again");
  }
  throw_unknown(text, folders, "a magnet link or URL nor an existing path nor a model nor a known release");
}

fs::path find_local(const std::string& text, const Context& context) {
  std::error_code unreadable;
  if (fs::exists(text, unreadable)) return format::resolve_cache_folder(text);
  const auto release = find_release(text, context.folders);
  if (release) {
    if (auto files = find_release_files(*release, context.folders)) return std::move(*files);
  }
  if (const auto place = find_fetched(text, context)) return place->path();
  const auto models = find_models(stored_models(context.folders), text);
  if (models.size() > 1) throw_ambiguous(text, models);
  if (models.size() == 1) return models.front().path;
  if (release)
    throw base::Error(base::ErrorKind::usage,
                      text + ": is a known release that was not fetched yet: sluice fetch " + text);
  throw base::Error(base::ErrorKind::usage, text + ": does not exist" + suggest_names(text, context.folders));
}

SharedRelease find_shared(const std::string& given, const Context& context) {
  std::error_code unreadable;
  const std::string text = fs::exists(given, unreadable) ? given : fetch::clean_link(given);
  if (base::starts_with_ignoring_case(text, "magnet:")) {
    const auto magnet = fetch::parse_magnet(text);
    const std::string infohash =
        magnet.infohash_v1 ? base::to_hex(*magnet.infohash_v1) : base::to_hex(magnet.infohash_v2.value());
    if (const auto place = find_fetched(infohash, context)) return {place->torrent(), place->folder};
    throw base::Error(base::ErrorKind::usage,
                      "the release of this magnet link was not fetched here: sluice fetch comes first");
  }
  const bool exists = fs::exists(text, unreadable);
  if (exists && fs::path(text).extension() == ".torrent") return {text, {}};
  if (exists) {
    const auto references = find_references(text, {}, context);
    if (!references.torrent.empty()) return {references.torrent, parent_of(text)};
    // Somebody may have renamed the torrent itself.
    if (is_one_file(text)) return {text, {}};
    throw base::Error(base::ErrorKind::usage,
                      text + ": no torrent of this release is near it: sluice publish makes one");
  }
  if (const auto place = find_fetched(text, context)) return {place->torrent(), place->folder};
  if (const auto release = find_release(text, context.folders)) {
    if (const auto files = find_release_files(*release, context.folders))
      if (const auto place = find_fetched(own_name(*files), context))
        return {place->torrent(), place->folder};
    throw base::Error(base::ErrorKind::usage,
                      text + ": is a known release that was not fetched yet: sluice fetch " + text);
  }
  throw base::Error(base::ErrorKind::usage, text + ": does not exist" + suggest_names(text, context.folders));
}

}  // namespace sluice::library
