# Installs mediaconnect, and keeps its flows, settings and keys.
#
# @param package_source
#   A .deb on the host; undef: the package comes from a repository that the host knows.
# @param settings
#   mediaconnect.toml, as mediaconnect.toml(5) has it; undef: the file stays as it is.
# @param flows
#   By name, each as mediaconnect-flow(5) has it.
# @param flows_exclusive
#   Flows that `flows` does not list are removed.
# @param secrets
#   Keys by file name; `lookup_options` may make them Sensitive.
#
# @example
#   class { 'mediaconnect':
#     flows => {
#       'news' => {
#         'sources' => { 'venue' => { 'protocol' => 'udp', 'bind' => '239.1.1.1:5000' } },
#         'outputs' => { 'playout' => { 'protocol' => 'udp', 'destination' => '239.2.2.2:5000' } },
#       },
#     },
#   }
class mediaconnect (
  Optional[Pattern[/\A\//]] $package_source = undef,
  Optional[Hash] $settings = undef,
  Hash[Pattern[/\A[a-z0-9][a-z0-9-]{0,62}\z/], Hash] $flows = {},
  Boolean $flows_exclusive = false,
  Variant[Hash[String, String], Sensitive[Hash[String, String]]] $secrets = {},
) {
  $check = '/usr/bin/mediaconnectctl check --overlay'

  $from = $package_source ? {
    undef   => {},
    default => { 'provider' => 'dpkg', 'source' => $package_source },
  }
  package { 'mediaconnect':
    ensure => installed,
    *      => $from,
  }

  # Keys before the files that name them, and mediaconnect.toml before the flows that name its networks.
  $keys = $secrets ? {
    Sensitive => $secrets.unwrap,
    default   => $secrets,
  }
  $key_files = $keys.map |$name, $key| {
    $path = "/etc/mediaconnect/secrets/${name}"
    file { $path:
      content   => Sensitive($key),
      owner     => 'root',
      group     => 'mediaconnect',
      mode      => '0640',
      show_diff => false,
      require   => Package['mediaconnect'],
      notify    => Service['mediaconnectd'],
    }
    File[$path]
  }

  $settings_file = $settings ? {
    undef   => [],
    default => [File['/etc/mediaconnect/mediaconnect.toml']],
  }
  if $settings {
    file { '/etc/mediaconnect/mediaconnect.toml':
      content      => mediaconnect::to_toml($settings),
      mode         => '0644',
      # Nothing that `check` rejects takes the place of what runs.
      validate_cmd => "${check} mediaconnect.toml=%",
      require      => [Package['mediaconnect']] + $key_files,
      notify       => Service['mediaconnectd'],
    }
  }

  file { '/etc/mediaconnect/flows.d':
    ensure  => directory,
    recurse => $flows_exclusive,
    purge   => $flows_exclusive,
    ignore  => '*.example',
    require => Package['mediaconnect'],
    notify  => Service['mediaconnectd'],
  }

  $flows.each |$name, $flow| {
    file { "/etc/mediaconnect/flows.d/${name}.toml":
      content      => mediaconnect::to_toml($flow),
      mode         => '0644',
      validate_cmd => "${check} ${name}=%",
      require      => [Package['mediaconnect']] + $key_files + $settings_file,
      notify       => Service['mediaconnectd'],
    }
  }

  # A reload waits until the change is applied, and fails with the reasons if a file is rejected.
  service { 'mediaconnectd':
    ensure  => running,
    enable  => true,
    restart => 'systemctl reload mediaconnectd',
    require => Package['mediaconnect'],
  }
}
