// A model is looked up in the store, made under the store's lock when it is missing, and looked up once more
// after the lock was taken, because another process may have made it meanwhile. Everything runs on the
// caller's thread; fetch, verify and convert use threads of their own.

#include "library/prepare_model.h"

#include <optional>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "convert/convert.h"
#include "format/checkpoint_kind.h"
#include "format/hub/cache_folder.h"
#include "library/origin.h"
#include "library/placed_fetch.h"
#include "library/reference_reader.h"
#include "library/source.h"
#include "library/store.h"

namespace sluice::library {
namespace {

namespace fs = std::filesystem;

/// True for the content or the extension of a checkpoint. The extension counts, so that a damaged checkpoint
/// is opened as one and the message says what is wrong with it.
bool names_checkpoint(const fs::path& file) {
  const std::string extension = file.extension().string();
  return extension == ".pth" || extension == ".pt" || extension == ".safetensors" ||
         (fs::is_regular_file(file) && format::is_checkpoint(file));
}

/// q6 is a type for attention and head of q4 models (docs/decisions/0014) and not one that a user may choose.
convert::Quant find_quant(const std::string& text) {
  if (const auto quant = convert::parse_quant(text); quant && *quant != convert::Quant::q6) return *quant;
  throw base::Error(base::ErrorKind::usage, "'" + text + "' is no quantization, expected q4, q8 or bf16");
}

// Makes one model: fetches, verifies and converts as far as that was not done earlier.
class ModelMaker {
 public:
  ModelMaker(const ModelRequest& request, const Context& context)
      : request_(request),
        quant_name_(request.quant.empty() ? request.default_quant : request.quant),
        quant_(find_quant(quant_name_)),
        context_(context),
        store_(context.folders.store) {}

  // The store is searched by the info-hash that the link names, before the network is used.
  fs::path from_magnet(const std::string& uri, const std::optional<CatalogEntry>& release) {
    const auto magnet = fetch::parse_magnet(uri);
    fetch::FetchRequest fetch_request = request_.network;
    fetch_request.source = uri;
    return from_download(std::move(fetch_request), magnet.name,
                         to_hex(magnet.infohash_v1, magnet.infohash_v2), release);
  }

  fs::path from_url(const std::string& url) {
    fetch::FetchRequest fetch_request = request_.network;
    fetch_request.source = url;
    // A URL says nothing about the content, so the torrent is downloaded first: its info-hash identifies the
    // release in the store.
    fetch_request.torrent = fetch::download_torrent(fetch_request, context_.stop);
    const auto layout = fetch::parse_torrent(fetch_request.torrent, url);
    return from_download(std::move(fetch_request), layout.name,
                         to_hex(layout.infohash_v1, layout.infohash_v2), std::nullopt);
  }

  fs::path from_folder(const fs::path& folder, const std::optional<CatalogEntry>& release) {
    ModelSource source;
    source.quant = quant_name_;
    source.identity = fs::canonical(folder).string();
    source.name = release ? release->manifest.name : format::cached_model_name(folder);
    if (source.name.empty()) source.name = fs::path(source.identity).filename().string();
    source.files = list_source_files(folder);
    // The first search takes no lock, so a model that is there starts at once even while another process
    // makes one.
    if (const auto model = store_.find(source)) return model->path;
    const auto lock = store_.lock(source.name, source.quant, context_.observer, context_.stop);
    if (const auto model = store_.find(source)) return model->path;

    References references;
    // An embedded release comes with the program, and its manifest with it: nothing else is looked for.
    if (release) {
      references.folder = folder;
      references.expected.manifest = release->manifest;
    } else {
      references = find_references(folder, {}, context_);
    }
    return convert_release(folder, references, source);
  }

 private:
  /// v1 if there is one.
  static std::string to_hex(const std::optional<base::Sha1>& v1, const std::optional<base::Sha256>& v2) {
    return v1 ? base::to_hex(*v1) : base::to_hex(v2.value());
  }

  fs::path from_download(fetch::FetchRequest fetch_request, const std::string& name,
                         const std::string& infohash, const std::optional<CatalogEntry>& release) {
    ModelSource source{release ? release->manifest.name : name, quant_name_, infohash, {}};
    if (source.name.empty()) source.name = infohash;
    // A model that was converted earlier does not need its release: the user may have deleted it.
    if (const auto model = store_.find(source)) return model->path;
    const auto lock = store_.lock(source.name, source.quant, context_.observer, context_.stop);
    if (const auto model = store_.find(source)) return model->path;

    fetch_request.output_folder = store_.release_folder(infohash);
    if (const auto place = store_.find_place(infohash)) {
      // A complete release of the user is read where it lies and nothing is written there. An incomplete one
      // is fetched on in its folder.
      if (place->complete && place->folder != fetch_request.output_folder) {
        if (const auto layout = read_layout(*place)) return from_place(*place, *layout, release, source);
      }
      fetch_request.output_folder = place->folder;
    }
    // The folder lies below the info-hash, so that releases of one name do not collide and the next run
    // resumes an interrupted download.
    base::make_directories(fetch_request.output_folder);
    const PlacedFetch placed{fetch_request, release ? release->manifest.name : "", quant_name_};
    const auto fetched = fetch_to_place(placed, context_.observer.fetch_progress(), context_);
    return convert_release(fetched.path, make_references(fetched.path, fetched.layout, release), source);
  }

  /// The layout of a release whose files are all there; nothing when its torrent or a file is not.
  std::optional<format::ReleaseLayout> read_layout(const ReleasePlace& place) {
    std::error_code absent;
    if (!fs::is_regular_file(place.torrent(), absent)) return std::nullopt;
    auto layout = fetch::read_torrent(place.torrent());
    const auto equals = [](const auto& digest, const std::string& hex) {
      return digest ? base::to_hex(*digest) == hex : hex.empty();
    };
    if (!equals(layout.infohash_v1, place.infohash_v1) || !equals(layout.infohash_v2, place.infohash_v2))
      return std::nullopt;
    const fs::path root = layout.single_file ? place.folder : place.path();
    for (const auto& file : layout.files) {
      if (file.pad) continue;
      if (!fs::is_regular_file(root / file.path, absent) ||
          fs::file_size(root / file.path, absent) != file.length_bytes)
        return std::nullopt;
    }
    return layout;
  }

  fs::path from_place(const ReleasePlace& place, const format::ReleaseLayout& layout,
                      const std::optional<CatalogEntry>& release, const ModelSource& source) {
    context_.observer.on_note("using the release that was fetched to " + place.path().string());
    return convert_release(place.path(), make_references(place.path(), layout, release), source);
  }

  /// The torrent was checked by its info-hash; the manifest of a known release adds digests of files.
  static References make_references(const fs::path& path, const format::ReleaseLayout& layout,
                                    const std::optional<CatalogEntry>& release) {
    References references;
    references.expected.layout = layout;
    if (release) references.expected.manifest = release->manifest;
    references.folder = layout.single_file ? path.parent_path() : path;
    return references;
  }

  fs::path convert_release(const fs::path& input, const References& references, const ModelSource& source) {
    convert::Request convert_request;
    convert_request.input = input;
    convert_request.output = store_.unfinished_path(source);
    convert_request.quant = quant_;
    convert_request.thread_count = request_.thread_count;
    // What needs no hashing comes first: a release that cannot be converted need not be proven.
    static_cast<void>(convert::require_convertible(convert_request));
    // This verifies the release, also just after a download: a container may only name an origin that was
    // verified just now.
    record_origin(references, OriginPolicy::must_match, convert_request, context_);
    const auto result = convert::convert(convert_request, context_.observer.progress(), context_.stop);
    context_.observer.on_work_end();
    // The model gets its final name only now; a run that is killed earlier leaves a part file that the next
    // run resumes.
    return store_.keep(convert_request.output, source, result.root).path;
  }

  const ModelRequest& request_;
  std::string quant_name_;
  convert::Quant quant_;
  const Context& context_;
  Store store_;
};

}  // namespace

fs::path prepare_model(const ModelRequest& request, const Context& context) {
  const Source source =
      find_model_source(request.model, request.quant, request.default_quant, context.folders);
  if (source.kind == Source::Kind::model) return source.model;
  if (source.kind == Source::Kind::path && !fs::is_directory(source.text) && !names_checkpoint(source.text)) {
    // This is a container, or something that Model::open refuses.
    return source.text;
  }
  ModelMaker maker(request, context);
  switch (source.kind) {
    case Source::Kind::magnet: return maker.from_magnet(source.text, std::nullopt);
    case Source::Kind::url: return maker.from_url(source.text);
    case Source::Kind::release: {
      auto release = source.release;
      // The manifest is read once more by the reader, because only the reader verifies its signature.
      release->manifest = ReferenceReader("", context).read_manifest(release->manifest_path);
      if (const auto& why = release->manifest.unsupported; !why.empty())
        throw base::Error(base::ErrorKind::malformed,
                          source.text + ": cannot be converted: " + why + "; sluice fetch downloads it");
      if (release->embedded_folder) return maker.from_folder(*release->embedded_folder, release);
      if (const auto magnet = release->manifest.magnet(); !magnet.empty())
        return maker.from_magnet(magnet, release);
      throw base::Error(base::ErrorKind::usage, source.text + ": no magnet link of this release is known");
    }
    case Source::Kind::model:
    case Source::Kind::path: break;
  }
  return maker.from_folder(format::resolve_cache_folder(source.text), std::nullopt);
}

}  // namespace sluice::library
