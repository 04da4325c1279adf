#include "library/model_source.h"

#include "base/error.h"
#include "base/file.h"
#include "cli/environment.h"
#include "cli/fetch_observer.h"
#include "cli/progress_line.h"
#include "cli/report.h"
#include "format/checkpoint_kind.h"
#include "library/reference_reader.h"
#include "library/references.h"
#include "library/store.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

bool starts_with_folded(std::string_view text, std::string_view prefix) {
  if (text.size() < prefix.size()) return false;
  for (std::size_t i = 0; i < prefix.size(); ++i) {
    const char c = text[i];
    if ((c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c) != prefix[i]) return false;
  }
  return true;
}

// By its content, or by a name that promises one, so that opening it tells what it is instead.
bool names_checkpoint(const fs::path& file) {
  const std::string extension = file.extension().string();
  return extension == ".pth" || extension == ".pt" || extension == ".safetensors" ||
         (fs::is_regular_file(file) && format::is_checkpoint(file));
}

// Makes one model, doing what is missing of fetch, verify and convert.
class ModelMaker {
 public:
  ModelMaker(const ModelRequest& request, Console& console, const std::stop_token& stop)
      : request_(request), console_(console), stop_(stop), store_(store_folder()) {}

  fs::path from_magnet(const std::string& uri, const std::optional<CatalogEntry>& release) {
    const auto magnet = fetch::parse_magnet(uri);
    fetch::FetchRequest fetch_request;
    fetch_request.source = uri;
    return from_download(std::move(fetch_request), magnet.name,
                         to_hex(magnet.infohash_v1, magnet.infohash_v2), release);
  }

  fs::path from_url(const std::string& url) {
    fetch::FetchRequest fetch_request;
    fetch_request.source = url;
    fetch_request.torrent = fetch::download_torrent(url, request_.network.allow_private, stop_);
    const auto layout = fetch::parse_torrent(fetch_request.torrent, url);
    return from_download(std::move(fetch_request), layout.name,
                         to_hex(layout.infohash_v1, layout.infohash_v2), std::nullopt);
  }

  fs::path from_folder(const fs::path& folder, const std::optional<CatalogEntry>& release) {
    ModelSource source;
    source.quant = request_.quant;
    source.identity = fs::canonical(folder).string();
    source.name = release ? release->manifest.name : fs::path(source.identity).filename().string();
    source.files = list_source_files(folder);
    if (const auto model = store_.find(source)) return model->path;
    const auto lock = store_.lock(source.name, source.quant, console_, stop_);
    if (const auto model = store_.find(source)) return model->path;

    FoundExpectations found;
    if (release) {
      found.folder = folder;
      found.expectations.manifest = release->manifest;
    } else {
      found = find_expectations(folder, {}, console_);
    }
    return convert_proven(folder, found, source);
  }

 private:
  /// v1 if there is one.
  static std::string to_hex(const std::optional<base::Sha1>& v1, const std::optional<base::Sha256>& v2) {
    return v1 ? base::to_hex(*v1) : base::to_hex(v2.value());
  }

  fs::path from_download(fetch::FetchRequest fetch_request, const std::string& name,
                         const std::string& infohash, const std::optional<CatalogEntry>& release) {
    ModelSource source{release ? release->manifest.name : name, request_.quant, infohash, {}};
    if (source.name.empty()) source.name = infohash;
    // The release need not be at hand any more once it has been converted.
    if (const auto model = store_.find(source)) return model->path;
    const auto lock = store_.lock(source.name, source.quant, console_, stop_);
    if (const auto model = store_.find(source)) return model->path;

    apply(request_.network, fetch_request);
    fetch_request.output_folder = store_.release_folder(infohash);
    fetch_request.worker_command = worker_command();
    base::make_directories(fetch_request.output_folder);
    FetchObserver observer(console_);
    const auto fetched = fetch::fetch(fetch_request, observer, stop_);
    FoundExpectations found;
    found.expectations.layout = fetched.layout;
    if (release) found.expectations.manifest = release->manifest;
    found.folder = fetched.layout.single_file ? fetched.path.parent_path() : fetched.path;
    return convert_proven(fetched.path, found, source);
  }

  fs::path convert_proven(const fs::path& input, const FoundExpectations& found, const ModelSource& source) {
    convert::Request convert_request;
    ProgressLine progress(console_);
    if (found.empty()) {
      console_.warn(input.string() + ": no torrent, manifest or checksums found, so it cannot be proven");
    } else {
      verify::Options options;
      options.thread_count = request_.thread_count;
      const auto report = prove(found, options, progress, stop_);
      if (!report.ok) {
        throw base::Error(base::ErrorKind::verification,
                          input.string() + ": " + report_summary(report) + "; sluice verify shows where");
      }
      record_origin(found, convert_request);
    }
    convert_request.input = input;
    convert_request.output = store_.unfinished_path(source);
    convert_request.quant = parse_quant(request_.quant);
    convert_request.thread_count = request_.thread_count;
    const auto result = convert::convert(convert_request, progress, stop_);
    console_.clear_status();
    return store_.keep(convert_request.output, source, result.root).path;
  }

  const ModelRequest& request_;
  Console& console_;
  std::stop_token stop_;
  Store store_;
};

}  // namespace

Source find_source(const std::string& text) {
  if (starts_with_folded(text, "magnet:")) return {Source::Kind::magnet, text, std::nullopt};
  if (starts_with_folded(text, "http://") || starts_with_folded(text, "https://"))
    return {Source::Kind::url, text, std::nullopt};
  std::error_code unreadable;
  if (fs::exists(text, unreadable)) return {Source::Kind::path, text, std::nullopt};
  if (auto release = find_release(text)) return {Source::Kind::release, text, std::move(release)};
  throw base::Error(base::ErrorKind::usage,
                    "'" + text +
                        "' is neither a magnet link or URL nor an existing path nor a known release "
                        "(sluice releases lists them)");
}

convert::Quant parse_quant(const std::string& text) {
  const auto quant = convert::parse_quant(text);
  if (quant && *quant != convert::Quant::q6) return *quant;  // only recipes name q6
  throw base::Error(base::ErrorKind::usage, "'" + text + "' is no quantization, expected q4, q8 or bf16");
}

fs::path prepare_model(const ModelRequest& request, Console& console, const std::stop_token& stop) {
  const Source source = find_source(request.model);
  if (source.kind == Source::Kind::path && !fs::is_directory(source.text) && !names_checkpoint(source.text)) {
    return source.text;  // a container, or something that Model::open refuses
  }
  ModelMaker maker(request, console, stop);
  switch (source.kind) {
    case Source::Kind::magnet: return maker.from_magnet(source.text, std::nullopt);
    case Source::Kind::url: return maker.from_url(source.text);
    case Source::Kind::release: {
      auto release = source.release;
      release->manifest = StatementReader("", console).read_manifest(release->manifest_path);
      if (const auto& why = release->manifest.unsupported; !why.empty())
        throw base::Error(base::ErrorKind::malformed,
                          source.text + ": cannot be converted: " + why + "; sluice fetch downloads it");
      if (release->embedded_folder) return maker.from_folder(*release->embedded_folder, release);
      if (const auto magnet = release->manifest.magnet(); !magnet.empty())
        return maker.from_magnet(magnet, release);
      throw base::Error(base::ErrorKind::usage, source.text + ": no magnet link of this release is known");
    }
    case Source::Kind::path: break;
  }
  return maker.from_folder(source.text, std::nullopt);
}

std::vector<std::string> worker_command() { return {executable_path().string(), "fetch-worker"}; }

}  // namespace sluice::cli
